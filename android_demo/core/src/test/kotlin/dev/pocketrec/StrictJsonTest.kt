package dev.pocketrec

import dev.pocketrec.internal.Fault
import dev.pocketrec.internal.StrictJson
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import java.math.BigInteger

/** Ambiguous and invalid JSON is refused; the rest means what it means in Python. */
class StrictJsonTest {
    private fun parse(text: String) = StrictJson.parse(text.toByteArray())

    @Test
    fun `valid JSON is read`() {
        val list = " [1, -25e-1, true, null, \"\\u00e9\\u0000\"]\n"
        assertEquals(mapOf("a" to listOf(1L, -2.5, true, null, "é\u0000")), parse("{\"a\":$list}"))
        assertEquals(BigInteger.TEN.pow(30), parse("1" + "0".repeat(30)))
        assertEquals(0L, parse("-0"))
        assertEquals(Double.POSITIVE_INFINITY, parse("1e999"))
        assertEquals("😀", parse("\"\\ud83d\\ude00\""))
        assertEquals("\u007f", parse("\"\u007f\""))
    }

    @Test
    fun `invalid JSON is refused`() {
        val wrong = listOf(
            "", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\":1 \"b\":2}", "{\"a\"=1}", "{a:1}", "{'a':1}", "[1;2]", "['a']",
            "[a]", "01", "1.", ".5", "+1", "0x1", "1e", "- 1", "NaN", "Infinity", "-Infinity", "nan", "True", "TRUE",
            "None", "nul", "\"\n\"", "\"\t\"", "\"\\'\"", "\"\\x41\"", "\"\\u12\"", "\"\\\n\"", "\"a", "1 2", "{} {}",
            "[] x", "\uFEFF{}", "/* a */ 1", "// a\n1", "# a\n1", ")]}'\n{}", "{\"a\":1,\"a\":1}",
            "{\"a\":1,\"\\u0061\":2}", "\u00a01", "\u000c1", // no-break space, form feed
            "[".repeat(5000), "[".repeat(5000) + "]".repeat(5000),
        )
        for (text in wrong) assertThrows(Fault::class.java, { parse(text) }, text.take(40))
    }

    @Test
    fun `bytes that are not UTF-8 are refused`() {
        for (text in listOf("\"\u00ff\"", "\"\u00c0\u0080\"", "\"\u00ed\u00a0\u0080\"")) {
            assertThrows(Fault::class.java) { StrictJson.parse(text.toByteArray(Charsets.ISO_8859_1)) }
        }
    }

    @Test
    fun `JSON is written as Python writes it`() {
        val list = listOf("é\u007f\n\"\\", 1, -2L, null)
        val value = mapOf("a" to list, "b" to emptyList<String>(), "c" to emptyMap<String, String>())
        assertEquals("{\"a\":[\"é\u007f\\n\\\"\\\\\",1,-2,null],\"b\":[],\"c\":{}}", StrictJson.write(value))
        val ascii = StrictJson.asciiList(listOf(listOf("a", "é\u007f"), "😀"))
        assertEquals("[[\"a\", \"\\u00e9\\u007f\"], \"\\ud83d\\ude00\"]", ascii)
    }

    @Test
    fun `texts are quoted as Python quotes them, on one line`() {
        assertEquals("'plain é 😀'", quote("plain é 😀"))
        assertEquals("\"it's\"", quote("it's"))
        assertEquals("'it\\'s \"so\"'", quote("it's \"so\""))
        assertEquals("'a\\\\b\\n\\r\\t\\x00\\x7f'", quote("a\\b\n\r\t\u0000\u007f"))
        assertEquals("'\\xa0\\u2028\\ufeff'", quote("\u00a0\u2028\uFEFF"))
        assertEquals("'\\ud800 \\U000e0001'", quote("\ud800 \udb40\udc01"))
    }
}
