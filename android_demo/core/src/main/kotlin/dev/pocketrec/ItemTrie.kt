package dev.pocketrec

import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.IntBuffer

/** An item of the catalogue. */
data class Item(val itemId: String, val title: String?)

/**
 * Which semantic IDs exist, and which item each one is: a catalogue, or a part of one. It never changes, so any number of
 * threads may read it.
 *
 * Nodes are numbered breadth-first, root 0, siblings by rising code; the children of an internal node v are
 * `firstChild[v]` to `firstChild[v + 1] - 1`. The leaves come last, in the order of the rows, so leaf row = node - internal.
 */
class ItemTrie private constructor(
    internal val file: TrieFile,
    private val part: IntArray?, // leaf row -> table row, rising; null: they are the same, as in the whole
) {
    internal val table get() = file.table
    internal val levels get() = file.codes.levels

    /** How many items there are. */
    val size: Int = part?.size ?: file.codes.size
    internal val nodes: Nodes = Nodes.of(file.codes, size, part)

    /** Whether the catalogue has an item. */
    operator fun contains(itemId: String): Boolean = leafOf(table.find(itemId)) >= 0

    /** The item in a row, 0 to [size] - 1: for browsing. */
    fun item(row: Int): Item {
        if (row !in 0 until size) throw ConfigException("row is $row; the catalogue has rows 0 to ${size - 1}")
        val place = rowOf(row)
        return Item(table.id(place), table.title(place))
    }

    /** The part of the catalogue with the given items; ids that it does not have are passed over. */
    fun filterIds(ids: Collection<String>): ItemTrie {
        val kept = ids.mapNotNull { table.find(it).takeIf { row -> leafOf(row) >= 0 } }
        return ItemTrie(file, kept.toSortedSet().toIntArray())
    }

    internal fun filter(keep: (Int) -> Boolean): ItemTrie =
        ItemTrie(file, (0 until size).filter(keep).map { rowOf(it) }.toIntArray())

    internal fun rowOf(leaf: Int): Int = part?.get(leaf) ?: leaf

    /** The leaf of a table row, -1 where this part lacks it. */
    internal fun leafOf(row: Int): Int = when {
        row < 0 -> -1
        part == null -> row
        else -> maxOf(-1, part.binarySearch(row))
    }

    internal fun code(leaf: Int, level: Int): Int = file.codes[rowOf(leaf), level]

    internal companion object {
        fun open(path: File): ItemTrie {
            val file = TrieFile.open(path)
            try {
                return ItemTrie(file, null)
            } catch (fault: Fault) {
                throw BundleException("${path.name} is malformed (${fault.message}); fetch it again or re-publish it")
            }
        }
    }
}

/** The nodes of a trie, as the graph reads them. */
internal class Nodes private constructor(
    val firstChild: IntBuffer, // [internal + 1], direct
    val codes: ByteBuffer, // a byte a node, or four where codes are wide; direct, in the machine's order
    val internal: Int,
    val count: Int,
    val maxBranch: IntArray,
) {
    companion object {
        fun of(codes: Codes, size: Int, part: IntArray?): Nodes {
            val levels = codes.levels
            val opens = IntArray(size) // the level from which on a row's prefix is not that of the row before
            val counts = IntArray(levels)
            for (leaf in 0 until size) {
                val row = part?.get(leaf) ?: leaf
                var level = 0
                if (leaf > 0) {
                    val before = part?.get(leaf - 1) ?: (leaf - 1)
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
            return filled(codes, part, opens, base, total, if (size == 0) 1 else total - counts[levels - 1])
        }

        private fun filled(
            codes: Codes, part: IntArray?, opens: IntArray, base: IntArray, total: Int, internal: Int,
        ): Nodes {
            val width = if (codes.wide) 4 else 1
            val nodes = ByteBuffer.allocateDirect(total * width).order(ByteOrder.nativeOrder())
            val first = ByteBuffer.allocateDirect(4 * (internal + 1)).order(ByteOrder.nativeOrder()).asIntBuffer()
            val next = base.clone() // the node that each level gives next
            val last = base.size - 1
            for (leaf in opens.indices) {
                val row = part?.get(leaf) ?: leaf
                for (level in opens[leaf]..last) {
                    val node = next[level]++
                    val code = codes[row, level]
                    if (codes.wide) nodes.putInt(4 * node, code) else nodes.put(node, code.toByte())
                    val parent = if (level == 0) 0 else next[level - 1] - 1
                    if (level > opens[leaf] || leaf == 0) first.put(parent, node)
                }
            }
            first.put(internal, total)
            if (opens.isEmpty()) first.put(0, 1)
            return Nodes(first, nodes, internal, total, branches(first, base, internal, opens.isEmpty()))
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
