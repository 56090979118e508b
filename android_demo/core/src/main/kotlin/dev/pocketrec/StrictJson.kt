package dev.pocketrec

import com.google.gson.Strictness
import com.google.gson.stream.JsonReader
import com.google.gson.stream.JsonToken
import java.io.IOException
import java.io.StringReader
import java.math.BigInteger
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException
import java.nio.charset.CodingErrorAction

/** JSON from files that nobody vouches for: one meaning only, and every fault a [Fault]. */
internal object StrictJson {
    private const val MAX_DEPTH = 200
    private const val BYTE_ORDER_MARK = '\uFEFF' // which the reader would pass over
    private val INTEGER = Regex("-?(0|[1-9][0-9]*)")

    /** Objects are maps in their order, numbers [Long], [BigInteger] or [Double]; the caller bounds the length. */
    fun parse(content: ByteArray): Any? {
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
            throw Fault("it is no UTF-8")
        } catch (error: IOException) {
            throw Fault(oneLine(error))
        } catch (error: IllegalStateException) {
            throw Fault(oneLine(error))
        } catch (error: NumberFormatException) {
            throw Fault(oneLine(error))
        }
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
            else -> throw Fault("it is no JSON")
        }
    }

    private fun number(text: String): Any =
        if (INTEGER.matches(text)) text.toLongOrNull() ?: BigInteger(text) else text.toDouble()

    /** A string as Python's `json.dumps` writes it: ASCII alone, so that hashes of saved sessions agree. */
    fun ascii(text: String, into: StringBuilder) {
        into.append('"')
        for (c in text) escape(c, into, c.code > 126)
        into.append('"')
    }

    /** A string as `json.dumps(ensure_ascii=False)` writes it. */
    fun plain(text: String, into: StringBuilder) {
        into.append('"')
        for (c in text) escape(c, into, false)
        into.append('"')
    }

    private fun escape(c: Char, into: StringBuilder, force: Boolean) {
        when {
            c == '"' -> into.append("\\\"")
            c == '\\' -> into.append("\\\\")
            c == '\n' -> into.append("\\n")
            c == '\r' -> into.append("\\r")
            c == '\t' -> into.append("\\t")
            c == '\b' -> into.append("\\b")
            c == '\u000C' -> into.append("\\f")
            c.code < 32 || force -> into.append("\\u").append(c.code.toString(16).padStart(4, '0'))
            else -> into.append(c)
        }
    }
}
