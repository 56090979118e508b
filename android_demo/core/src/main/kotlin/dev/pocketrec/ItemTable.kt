package dev.pocketrec

import dev.pocketrec.internal.Fault
import java.nio.ByteBuffer
import java.nio.CharBuffer
import java.nio.charset.CodingErrorAction
import java.security.SecureRandom

private const val UTF8_PIECE = 1 shl 16
private const val MAX_PROBES = 1 shl 12

/** The ids or titles of all items, one after the other in a mapped file. `ends`: the end of each. */
internal class Texts(private val bytes: ByteBuffer, private val ends: IntArray) {
    val size get() = ends.size

    fun start(row: Int) = if (row == 0) 0 else ends[row - 1]

    fun length(row: Int) = ends[row] - start(row)

    operator fun get(row: Int): String {
        val out = ByteArray(length(row))
        val part = bytes.duplicate()
        part.position(start(row))
        part.get(out)
        return String(out, Charsets.UTF_8)
    }

    fun same(row: Int, other: ByteArray): Boolean {
        val start = start(row)
        return length(row) == other.size && other.indices.all { bytes.get(start + it) == other[it] }
    }

    fun same(row: Int, other: Int): Boolean {
        val (a, b) = Pair(start(row), start(other))
        return length(row) == length(other) && (0 until length(row)).all { bytes.get(a + it) == bytes.get(b + it) }
    }

    fun hash(row: Int, seed: Long): Int {
        var h = seed
        for (i in start(row) until ends[row]) h = mixed(h, bytes.get(i))
        return finished(h)
    }

    /** Whether every text is valid UTF-8: all bytes together are, and no text begins inside a character. */
    fun isUtf8(): Boolean {
        val decoder = Charsets.UTF_8.newDecoder()
            .onMalformedInput(CodingErrorAction.REPORT).onUnmappableCharacter(CodingErrorAction.REPORT)
        val source = bytes.duplicate()
        val sink = CharBuffer.allocate(UTF8_PIECE)
        do {
            sink.clear()
            val result = decoder.decode(source, sink, true)
            if (result.isError) return false
        } while (result.isOverflow)
        return (0 until size).all { start(it) >= bytes.limit() || bytes.get(start(it)).toInt() and 0xC0 != 0x80 }
    }

    companion object {
        fun mixed(hash: Long, byte: Byte): Long = java.lang.Long.rotateLeft((hash xor byte.toLong()) * PRIME, 23)

        fun finished(hash: Long): Int = ((hash xor (hash ushr 29)) * PRIME ushr 32).toInt()

        private const val PRIME = -0x61c8864680b583ebL
    }
}

/** The ids and titles of a catalogue by row, and rows by id, without a String per item. */
internal class ItemTable(private val ids: Texts, private val titles: Texts?) {
    private val seed = SecureRandom().nextLong()
    private val slots = IntArray(Integer.highestOneBit(maxOf(ids.size, 4)) * 4)

    init {
        for (row in 0 until ids.size) insert(row)
    }

    val size get() = ids.size

    fun id(row: Int): String = ids[row]

    fun title(row: Int): String? = titles?.get(row)?.ifEmpty { null }

    /** The row of an id; -1 if no item has it. */
    fun find(id: String): Int {
        if (id.any { it.isSurrogate() } && !Charsets.UTF_8.newEncoder().canEncode(id)) return -1 // a lone surrogate
        val bytes = id.toByteArray(Charsets.UTF_8)
        var hash = seed
        for (byte in bytes) hash = Texts.mixed(hash, byte)
        var slot = Texts.finished(hash) and slots.size - 1
        while (slots[slot] != 0) {
            if (ids.same(slots[slot] - 1, bytes)) return slots[slot] - 1
            slot = slot + 1 and slots.size - 1
        }
        return -1
    }

    private fun insert(row: Int) {
        var slot = ids.hash(row, seed) and slots.size - 1
        var probes = 0
        while (slots[slot] != 0) {
            val other = slots[slot] - 1
            if (ids.same(other, row)) {
                throw Fault(
                    "is malformed (rows $other and $row both have the item id ${quote(id(row))}; ids must be unique)",
                )
            }
            if (++probes > MAX_PROBES) {
                throw Fault("is malformed (its item ids collide in the index of ids, which does not happen by chance)")
            }
            slot = slot + 1 and slots.size - 1
        }
        slots[slot] = row + 1
    }
}
