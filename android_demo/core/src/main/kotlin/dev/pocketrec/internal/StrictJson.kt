package dev.pocketrec.internal

import com.google.gson.Strictness
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.IOException
import java.io.StringReader
import java.math.BigInteger
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

/** Reads JSON that is not trusted (ambiguous or invalid JSON is refused), and writes JSON as Python does. */
@PocketRecInternal
object StrictJson {
    private const val MAX_DEPTH = 200
    private const val BYTE_ORDER_MARK = '\uFEFF' // which Gson's reader would skip
    private val INTEGER = Regex("-?(0|[1-9][0-9]*)")

    /**
     * Parses UTF-8 JSON, or throws a [Fault]. Objects become maps in file order, integers [Long] or [BigInteger], other
     * numbers [Double]. The caller limits the length.
     */
    internal fun parse(content: ByteArray): Any? {
        try {
            val decoder = Charsets.UTF_8.newDecoder()
                .onMalformedInput(CodingErrorAction.REPORT).onUnmappableCharacter(CodingErrorAction.REPORT)
            val text = decoder.decode(ByteBuffer.wrap(content)).toString()
            if (text.startsWith(BYTE_ORDER_MARK)) throw Fault("it begins with a byte order mark")
            val reader = JsonReader(StringReader(text))
            reader.strictness = Strictness.STRICT
            val value = value(reader, 0)
            if (reader.peek() != JsonToken.END_DOCUMENT) throw Fault("something follows the value")
            return value
        } catch (error: CharacterCodingException) {
            throw Fault("it is not UTF-8")
        } catch (error: IOException) {
            throw Fault(oneLine(error))
        } catch (error: IllegalStateException) {
            throw Fault(oneLine(error))
        } catch (error: NumberFormatException) {
            throw Fault(oneLine(error))
        }
    }

    /** Parses a JSON object; null if the content is anything else. */
    @Suppress("UNCHECKED_CAST")
    fun objectOrNull(content: ByteArray): Map<String, Any?>? =
        try {
            parse(content) as? Map<String, Any?>
        } catch (_: Fault) {
            null
        }

    private fun value(reader: JsonReader, depth: Int): Any? {
        if (depth > MAX_DEPTH) throw Fault("it is nested too deeply")
        return when (reader.peek()) {
            JsonToken.BEGIN_OBJECT -> {
                val out = LinkedHashMap<String, Any?>()
                reader.beginObject()
                while (reader.hasNext()) {
                    val name = reader.nextName()
                    if (out.containsKey(name)) throw Fault("an object has a name twice")
                    out[name] = value(reader, depth + 1)
                }
                reader.endObject()
                out
            }
            JsonToken.BEGIN_ARRAY -> {
                val out = ArrayList<Any?>()
                reader.beginArray()
                while (reader.hasNext()) out.add(value(reader, depth + 1))
                reader.endArray()
                out
            }
            JsonToken.STRING -> reader.nextString()
            JsonToken.NUMBER -> number(reader.nextString())
            JsonToken.BOOLEAN -> reader.nextBoolean()
            JsonToken.NULL -> { reader.nextNull(); null }
            else -> throw Fault("it is not JSON")
        }
    }

    private fun number(text: String): Any =
        if (INTEGER.matches(text)) text.toLongOrNull() ?: BigInteger(text) else text.toDouble()

    /** Compact JSON of maps, lists, strings, integers and null: `json.dumps` with ensure_ascii=False, no spaces. */
    fun write(value: Any?): String = StringBuilder().also { write(value, it) }.toString()

    private fun write(value: Any?, out: StringBuilder) {
        when (value) {
            null -> out.append("null")
            is String -> string(value, out, isAscii = false)
            is Int, is Long -> out.append(value)
            is List<*> -> {
                value.forEachIndexed { place, item -> write(item, out.append(if (place == 0) '[' else ',')) }
                out.append(if (value.isEmpty()) "[]" else "]")
            }
            is Map<*, *> -> {
                out.append('{')
                value.entries.forEachIndexed { place, (name, item) ->
                    if (place > 0) out.append(',')
                    string(name as String, out, isAscii = false)
                    write(item, out.append(':'))
                }
                out.append('}')
            }
            else -> throw IllegalArgumentException("${value.javaClass} has no JSON")
        }
    }

    /** A list of strings, or of such lists, as `json.dumps` writes it by default: ASCII only, spaces after commas. */
    internal fun asciiList(items: List<*>): String = items.joinToString(", ", "[", "]") { item ->
        if (item is List<*>) asciiList(item) else StringBuilder().also { string(item as String, it, isAscii = true) }
    }

    private fun string(text: String, out: StringBuilder, isAscii: Boolean) {
        out.append('"')
        for (c in text) escape(c, out, isAscii && c.code > 126)
        out.append('"')
    }

    private fun escape(c: Char, out: StringBuilder, force: Boolean) {
        when {
            c == '"' -> out.append("\\\"")
            c == '\\' -> out.append("\\\\")
            c == '\n' -> out.append("\\n")
            c == '\r' -> out.append("\\r")
            c == '\t' -> out.append("\\t")
            c == '\b' -> out.append("\\b")
            c == '\u000C' -> out.append("\\f")
            c.code < 32 || force -> out.append("\\u").append(c.code.toString(16).padStart(4, '0'))
            else -> out.append(c)
        }
    }
}
