package dev.pocketrec

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import java.math.BigInteger

/** One meaning only, and the one that Python finds. */
class StrictJsonTest {
    private fun parse(text: String) = StrictJson.parse(text.toByteArray())

    @Test
    fun `what JSON allows is read`() {
        val list = " [1, -25e-1, true, null, \"\\u00e9\\u0000\"]\n"
        assertEquals(mapOf("a" to listOf(1L, -2.5, true, null, "é\u0000")), parse("{\"a\":$list}"))
        assertEquals(BigInteger.TEN.pow(30), parse("1" + "0".repeat(30)))
        assertEquals(0L, parse("-0"))
        assertEquals(Double.POSITIVE_INFINITY, parse("1e999"))
        assertEquals("😀", parse("\"\\ud83d\\ude00\""))
        assertEquals("\u007f", parse("\"\u007f\""))
    }

    @Test
    fun `what it does not allow is refused`() {
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
    fun `bytes that are no UTF-8 are refused`() {
        for (text in listOf("\"\u00ff\"", "\"\u00c0\u0080\"", "\"\u00ed\u00a0\u0080\"")) {
            assertThrows(Fault::class.java) { StrictJson.parse(text.toByteArray(Charsets.ISO_8859_1)) }
        }
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
