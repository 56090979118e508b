package dev.pocketrec

import dev.pocketrec.internal.Fault
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.IntBuffer
import java.nio.ShortBuffer

/** The nodes of a trie, in the form that the graphs read. */
internal class Nodes private constructor(
    val firstChild: IntBuffer, // [internal + 1], direct
    val codes: ByteBuffer, // one byte per node, or two if codes are wide; direct, native byte order
    val wide: Boolean,
    val internal: Int,
    val count: Int,
    val maxBranch: IntArray,
) {
    /** The tensors over these buffers, once the engine has made them. One engine at most uses a trie. */
    @Volatile var tensors: TrieTensors? = null

    fun wideCodes(): ShortBuffer = codes.duplicate().order(ByteOrder.nativeOrder()).asShortBuffer()

    companion object {
        fun of(codes: Codes, size: Int, tableRows: IntArray?): Nodes {
            val levels = codes.levels
            val opens = IntArray(size) // the first level at which a row differs from the row before
            val counts = IntArray(levels)
            for (leaf in 0 until size) {
                val row = rowOf(tableRows, leaf)
                var level = 0
                if (leaf > 0) {
                    val before = rowOf(tableRows, leaf - 1)
                    while (level < levels && codes[row, level] == codes[before, level]) level++
                    if (level == levels) throw Fault("leaf rows ${leaf - 1} and $leaf have one semantic ID")
                    if (codes[row, level] < codes[before, level]) throw Fault("the semantic IDs are not sorted")
                }
                opens[leaf] = level
                for (deeper in level until levels) counts[deeper]++
            }
            val base = IntArray(levels)
            for (level in 0 until levels) base[level] = if (level == 0) 1 else base[level - 1] + counts[level - 1]
            val total = 1 + counts.sum()
            return filled(codes, tableRows, opens, base, total, if (size == 0) 1 else total - counts[levels - 1])
        }

        private fun rowOf(tableRows: IntArray?, leaf: Int) = if (tableRows == null) leaf else tableRows[leaf]

        private fun filled(
            codes: Codes, tableRows: IntArray?, opens: IntArray, base: IntArray, total: Int, internal: Int,
        ): Nodes {
            val width = if (codes.wide) 2 else 1
            val nodes = ByteBuffer.allocateDirect(total * width).order(ByteOrder.nativeOrder())
            val first = ByteBuffer.allocateDirect(4 * (internal + 1)).order(ByteOrder.nativeOrder()).asIntBuffer()
            val next = base.clone() // the next node number of each level
            val last = base.size - 1
            for (leaf in opens.indices) {
                val row = rowOf(tableRows, leaf)
                for (level in opens[leaf]..last) {
                    val node = next[level]++
                    val code = codes[row, level]
                    if (codes.wide) nodes.putShort(2 * node, code.toShort()) else nodes.put(node, code.toByte())
                    val parent = if (level == 0) 0 else next[level - 1] - 1
                    if (level > opens[leaf] || leaf == 0) first.put(parent, node)
                }
            }
            first.put(internal, total)
            if (opens.isEmpty()) first.put(0, 1)
            return Nodes(first, nodes, codes.wide, internal, total, branches(first, base, internal, opens.isEmpty()))
        }

        private fun branches(first: IntBuffer, base: IntArray, internal: Int, empty: Boolean): IntArray {
            val out = IntArray(base.size)
            if (empty) return out
            var level = 0
            for (node in 0 until internal) {
                while (level < base.size && node >= base[level]) level++
                out[level] = maxOf(out[level], first.get(node + 1) - first.get(node))
            }
            return out
        }
    }
}
