package dev.pocketrec

import dev.pocketrec.internal.Fault
import dev.pocketrec.internal.oneLine
import java.io.File
import java.io.FileInputStream
import java.io.IOException

private val WORD = "location".toByteArray()
private const val MAX_DEPTH = 64
private const val PIECE = 1 shl 18
private const val DAMAGED = "is damaged or no ONNX file"

/** For each kind of message: the fields, by number, that can lead to a tensor, and the kind of message in them. */
private val SUBMESSAGES: Map<String, Map<Int, String>> = mapOf(
    "model" to mapOf(7 to "graph", 20 to "training", 25 to "function"),
    "training" to mapOf(1 to "graph", 2 to "graph"),
    "function" to mapOf(7 to "node", 11 to "attribute"),
    "graph" to mapOf(1 to "node", 5 to "tensor", 15 to "sparse"),
    "node" to mapOf(5 to "attribute"),
    "attribute" to mapOf(5 to "tensor", 6 to "graph", 10 to "tensor", 11 to "graph", 22 to "sparse", 23 to "sparse"),
    "sparse" to mapOf(1 to "tensor", 2 to "tensor"),
    "tensor" to mapOf(13 to "place"),
)

/** Checks where an ONNX file stores its weights before ONNX Runtime opens it: only in files of the manifest. */
internal object OnnxCheck {
    /** Throws a [Fault] if a tensor is stored elsewhere. `sizes`: size of the files that it may refer to, by name. */
    fun check(graph: File, sizes: Map<String, Long>) {
        val bytes = try {
            if (mentions(graph)) graph.readBytes() else return
        } catch (error: IOException) {
            throw Fault("cannot be read (${oneLine(error)})")
        }
        places(Span(bytes, 0, bytes.size), "model", 0) { place ->
            val name = place["location"] ?: ""
            val size = sizes[name]
                ?: throw Fault("takes weights from a file ${quote(name.take(60))} that the manifest does not list")
            val numbers = listOf("offset", "length").map { place[it] ?: "0" }
            if (!numbers.all { Regex("[0-9]{1,15}").matches(it) }) {
                val (offset, length) = numbers.map { quote(it.take(20)) }
                throw Fault("has no valid place in $name: offset $offset, length $length")
            }
            if (numbers.sumOf { it.toLong() } > size) throw Fault("refers to bytes past the end of $name")
        }
    }

    /** Whether the word is in a file. The file is read in pieces, since weights may be in it. */
    private fun mentions(graph: File): Boolean = FileInputStream(graph).use { file ->
        val kept = WORD.size - 1
        val piece = ByteArray(kept + PIECE)
        var start = kept
        var read = file.read(piece, kept, PIECE)
        while (read >= 0) {
            if (Span(piece, start, kept + read).holds(WORD)) return true
            start = maxOf(start - read, 0)
            piece.copyInto(piece, 0, read, read + kept) // the word may span two pieces
            read = file.read(piece, kept, PIECE)
        }
        false
    }

    private fun places(message: Span, kind: String, depth: Int, found: (Map<String, String>) -> Unit) {
        if (depth > MAX_DEPTH) throw Fault("is nested too deeply")
        val place = HashMap<String, String>()
        message.fields { number, value ->
            val inner = SUBMESSAGES.getValue(kind)[number]
            if (inner == "place") {
                val entry = HashMap<Int, String>() // if a field occurs twice, the last one counts
                value.fields { n, text -> entry[n] = text.toString() }
                val key = entry[1] ?: ""
                if (key in place) throw Fault("gives the ${quote(key.take(20))} of a tensor twice")
                place[key] = entry[2] ?: ""
            } else if (inner != null && value.holds(WORD)) {
                places(value, inner, depth + 1, found)
            }
        }
        if ("location" in place) found(place)
    }
}

/** A range of bytes that holds a protobuf message. */
private class Span(private val bytes: ByteArray, private var at: Int, private val end: Int) {
    override fun toString() = String(bytes, at, end - at, Charsets.UTF_8)

    fun holds(word: ByteArray): Boolean {
        for (start in at..end - word.size) {
            var same = 0
            while (same < word.size && bytes[start + same] == word[same]) same++
            if (same == word.size) return true
        }
        return false
    }

    /** Calls `each` with number and content of every length-delimited field; other fields are skipped. */
    fun fields(each: (Int, Span) -> Unit) {
        val start = at
        while (at < end) {
            val tag = varint()
            val size = when ((tag and 7).toInt()) {
                0 -> 0L.also { varint() }
                1 -> 8L
                2 -> varint()
                5 -> 4L
                else -> throw Fault(DAMAGED) // groups are not used in ONNX
            }
            if (size < 0 || size > end - at) throw Fault(DAMAGED)
            val number = ((tag and 0xFFFFFFFFL) ushr 3).toInt() // protobuf reads 32 bits of a tag
            if (tag and 7 == 2L) each(number, Span(bytes, at, at + size.toInt()))
            at += size.toInt()
        }
        at = start
    }

    private fun varint(): Long {
        var value = 0L
        for (place in 0 until 10) {
            if (at >= end) break
            val byte = bytes[at++].toLong()
            value = value or ((byte and 127) shl 7 * place)
            if (byte >= 0) return value
        }
        throw Fault(DAMAGED)
    }
}
