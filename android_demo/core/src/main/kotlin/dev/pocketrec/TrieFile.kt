package dev.pocketrec

import dev.pocketrec.internal.Fault
import java.io.File
import java.nio.ByteBuffer

private const val FORMAT = "pocketrec.trie"
private const val VERSION = "2"
private const val MAX_ITEMS = 1 shl 24
private const val MAX_SPACE = 256
private const val MAX_ID_BYTES = 1024
private const val MAX_TITLE_BYTES = (1 shl 16) - 1
private const val FETCH_AGAIN = "fetch it again or re-publish it"
private val TITLES = listOf("title_bytes", "title_lengths")

/** The semantic IDs of a file: [size] rows of [levels] codes, of one byte each, or two if [wide]. */
internal class Codes(private val bytes: ByteBuffer, val size: Int, val levels: Int, val wide: Boolean) {
    operator fun get(row: Int, level: Int): Int {
        val at = row * levels + level
        return if (wide) bytes.getShort(2 * at).toInt() and 0xFFFF else bytes.get(at).toInt() and 0xFF
    }
}

/** The content of a trie file: sorted semantic IDs, and the items in the same order. */
internal class TrieFile(val codes: Codes, val table: ItemTable, val codesPerLevel: Int, val sidSpace: String) {
    companion object {
        /** Reads a trie file and checks all but the order of its codes, which [Nodes] checks. */
        fun open(file: File): TrieFile {
            try {
                return read(file)
            } catch (fault: Fault) {
                throw BundleException("${file.name} ${fault.message}; $FETCH_AGAIN", fault)
            }
        }

        private fun read(file: File): TrieFile {
            if (file.length() >= MAX_FILE_BYTES) throw Fault("is over the limit of $MAX_FILE_BYTES bytes")
            val content = try {
                SafetensorsFile.open(file)
            } catch (fault: Fault) {
                throw Fault("is damaged or no safetensors file (${fault.message})")
            }
            val (space, perLevel) = metadata(content.metadata)
            val names = content.tensors.keys
            val titled = TITLES.any { it in names }
            val needed = setOf("codes", "id_bytes", "id_lengths") + if (titled) TITLES else emptyList()
            (needed - names).minOrNull()?.let { throw Fault("lacks the tensor ${quote(it)}") }
            (names - needed).minOrNull()?.let { throw Fault("has a tensor ${quote(it)} that the format does not know") }
            val codes = codes(content, perLevel)
            val ids = texts(content, "id", codes.size, 1, MAX_ID_BYTES)
            val titles = if (titled) texts(content, "title", codes.size, 0, MAX_TITLE_BYTES) else null
            return TrieFile(codes, ItemTable(ids, titles), perLevel, space)
        }

        private fun metadata(found: Map<String, String>): Pair<String, Int> {
            fun said(name: String) = found[name]?.let { quote(it).take(60) } ?: "None"
            if (found["format"] != FORMAT) throw Fault("has format ${said("format")}, not ${quote(FORMAT)}")
            if (found["version"] != VERSION) {
                throw Fault("has version ${said("version")}, and this runtime reads ${quote(VERSION)}")
            }
            val space = found["sid_space"] ?: throw Fault("lacks 'sid_space' in its metadata")
            val text = found["codes_per_level"] ?: throw Fault("lacks 'codes_per_level' in its metadata")
            if (space.length > MAX_SPACE) {
                throw Fault("has a sid_space of ${space.length} characters; $MAX_SPACE are allowed")
            }
            val number = if (Regex("[0-9]{1,5}").matches(text)) text.toInt() else 0
            if (number !in 1..MAX_CODES.toInt()) {
                throw Fault("says codes_per_level ${quote(text.take(20))}, which is not a number from 1 to $MAX_CODES")
            }
            return Pair(space, number)
        }

        private fun tensor(
            content: SafetensorsFile, name: String, type: String, kind: String, dimensions: Int,
        ): Tensor {
            val tensor = content.tensors.getValue(name)
            if (tensor.type != type) throw Fault("has $name of type ${tensor.type}, where $kind is needed")
            if (tensor.shape.size != dimensions) {
                throw Fault("has $name of shape ${tensor.shape}, where $dimensions dimension(s) are needed")
            }
            return tensor
        }

        private fun codes(content: SafetensorsFile, perLevel: Int): Codes {
            val wide = perLevel > 256
            val (type, kind) = if (wide) Pair("U16", "uint16") else Pair("U8", "uint8")
            val tensor = tensor(content, "codes", type, kind, 2)
            val (n, levels) = tensor.shape
            if (n > MAX_ITEMS) throw Fault("holds $n items, over the limit of $MAX_ITEMS")
            if (levels !in 1..MAX_LEVELS.toInt()) throw Fault("has $levels levels, where 1 to $MAX_LEVELS are allowed")
            val codes = Codes(tensor.bytes, n, levels, wide)
            for (row in 0 until n) {
                for (level in 0 until levels) {
                    if (codes[row, level] >= perLevel) {
                        throw Fault("has a code ${codes[row, level]}, but codes_per_level is $perLevel")
                    }
                }
            }
            return codes
        }

        private fun texts(content: SafetensorsFile, what: String, n: Int, shortest: Int, longest: Int): Texts {
            val bytes = tensor(content, "${what}_bytes", "U8", "uint8", 1).bytes
            val lengths = tensor(content, "${what}_lengths", "U16", "uint16", 1)
            if (lengths.shape[0] != n) throw Fault("has ${lengths.shape[0]} ${what}_lengths for $n items")
            var (sum, low, high) = Triple(0L, Int.MAX_VALUE, 0)
            val ends = IntArray(n) { row ->
                val length = lengths.bytes.getShort(2 * row).toInt() and 0xFFFF
                low = minOf(low, length)
                high = maxOf(high, length)
                sum += length
                sum.toInt()
            }
            if (sum != bytes.limit().toLong()) {
                throw Fault("has ${what}_lengths that sum to $sum, but ${bytes.limit()} ${what}_bytes")
            }
            if (n > 0 && (low < shortest || high > longest)) {
                throw Fault("has ${what}s of $low to $high bytes; $shortest to $longest are allowed")
            }
            val texts = Texts(bytes, ends)
            if (!texts.isUtf8()) throw Fault("has ${what}s that are not valid UTF-8")
            return texts
        }
    }
}
