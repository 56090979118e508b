package dev.pocketrec

import dev.pocketrec.internal.Fault
import dev.pocketrec.internal.StrictJson
import dev.pocketrec.internal.oneLine
import java.io.File
import java.io.IOException
import java.io.RandomAccessFile
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel

/** A tensor of a safetensors file; its bytes stay in the mapped file. */
internal class Tensor(val type: String, val shape: List<Int>, val bytes: ByteBuffer)

/** A memory-mapped safetensors file, read strictly: a short header, and tensors that fill the rest without gaps. */
internal class SafetensorsFile private constructor(
    val metadata: Map<String, String>, val tensors: Map<String, Tensor>,
) {
    companion object {
        private const val MAX_HEADER_BYTES = 1L shl 20
        private const val MAX_DIMENSIONS = 8
        private const val MAX_LENGTH = 1L shl 31
        private const val MAX_NAME = 256
        private const val META = "__metadata__"
        private val SIZES = mapOf(
            "BOOL" to 1, "U8" to 1, "I8" to 1, "U16" to 2, "I16" to 2, "F16" to 2, "BF16" to 2, "U32" to 4, "I32" to 4,
            "F32" to 4, "U64" to 8, "I64" to 8, "F64" to 8,
        )

        /** Opens a file, or throws a [Fault] that says what is wrong. */
        fun open(file: File): SafetensorsFile {
            if (file.length() > Int.MAX_VALUE) throw Fault("it has ${file.length()} bytes, more than a map holds")
            val map = try {
                RandomAccessFile(file, "r").use { it.channel.map(FileChannel.MapMode.READ_ONLY, 0, it.length()) }
            } catch (error: IOException) {
                throw Fault(oneLine(error))
            }
            map.order(ByteOrder.LITTLE_ENDIAN)
            if (map.limit() < 8) throw Fault("it is too short for a header")
            val length = map.getLong(0)
            if (length < 0 || length > MAX_HEADER_BYTES) {
                val said = length.toULong()
                throw Fault("its header says that it has $said bytes, over the limit of $MAX_HEADER_BYTES")
            }
            if (8 + length > map.limit()) throw Fault("its header ends past the end of the file")
            val text = ByteArray(length.toInt())
            map.position(8)
            map.get(text)
            if (text.isEmpty() || text[0] != '{'.code.toByte()) throw Fault("its header is not an object")
            val header = StrictJson.parse(text) as? Map<*, *> ?: throw Fault("its header is not an object")
            return SafetensorsFile(metadata(header[META]), tensors(header, slice(map, text.size + 8, map.limit())))
        }

        private fun tensors(header: Map<*, *>, data: ByteBuffer): Map<String, Tensor> {
            val places = ArrayList<Pair<Int, Int>>()
            val out = LinkedHashMap<String, Tensor>()
            for ((key, entry) in header) {
                val name = key as String
                if (name.length > MAX_NAME) throw Fault("it has a tensor name of ${name.length} characters")
                if (name == META) continue
                val shape = sizes((entry as? Map<*, *>)?.get("shape"))
                if (entry !is Map<*, *> || shape == null || shape.size > MAX_DIMENSIONS) {
                    throw Fault("its tensor ${quote(name)} has an invalid shape")
                }
                val type = entry["dtype"] as? String
                val size = SIZES[type] ?: throw Fault("its tensor ${quote(name)} has no known type")
                val place = sizes(entry["data_offsets"])
                if (place == null || place.size != 2 || place[0] > place[1] || place[1] > data.limit()) {
                    throw Fault("its tensor ${quote(name)} lies nowhere")
                }
                val bytes = shape.fold(size.toDouble()) { product, n -> product * n }
                if (bytes != (place[1] - place[0]).toDouble()) {
                    throw Fault("its tensor ${quote(name)} has other bytes than its shape needs")
                }
                places.add(Pair(place[0].toInt(), place[1].toInt()))
                val ints = shape.map { minOf(it, Int.MAX_VALUE.toLong()).toInt() }
                out[name] = Tensor(type!!, ints, slice(data, place[0].toInt(), place[1].toInt()))
            }
            checkFill(places, data.limit())
            return out
        }

        /** Checks that the tensors cover every byte exactly once. */
        private fun checkFill(places: List<Pair<Int, Int>>, bytes: Int) {
            var end = 0
            for ((begin, until) in places.sortedWith(compareBy({ it.first }, { it.second }))) {
                if (begin != end) throw Fault("a tensor does not begin where the one before ends")
                end = until
            }
            if (end != bytes) throw Fault("its tensors have $end bytes, but the file has $bytes")
        }

        private fun sizes(value: Any?): List<Long>? {
            val list = value as? List<*> ?: return null
            return if (list.all { it is Long && it in 0..MAX_LENGTH }) list.map { it as Long } else null
        }

        @Suppress("UNCHECKED_CAST")
        private fun metadata(value: Any?): Map<String, String> {
            if (value == null) return emptyMap()
            if (value !is Map<*, *> || !value.values.all { it is String }) throw Fault("its metadata are no texts")
            return value as Map<String, String>
        }

        private fun slice(buffer: ByteBuffer, begin: Int, end: Int): ByteBuffer {
            val part = buffer.duplicate()
            part.limit(end)
            part.position(begin)
            return part.slice().order(ByteOrder.LITTLE_ENDIAN)
        }
    }
}
