package dev.pocketrec.demo

import dev.pocketrec.demo.model.Wording
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import java.util.Locale

class WordingTest {
    private val english = Wording(Locale.ENGLISH)
    private val german = Wording(Locale.GERMANY)

    @Test
    fun `times are milliseconds with one decimal`() {
        assertEquals("1.4", english.milliseconds(1_444_000))
        assertEquals("0,1", german.milliseconds(96_000))
    }

    @Test
    fun `sizes are kilobytes or megabytes`() {
        assertEquals("640 kB", english.size(640_123))
        assertEquals("1.0 MB", english.size(1_000_000))
        assertEquals("3,4 MB", german.size(3_447_000))
    }

    @Test
    fun `counts and scores follow the locale`() {
        assertEquals("3,421", english.count(3421))
        assertEquals("-2.31", english.score(-2.312f))
        assertEquals("-2,31", german.score(-2.312f))
    }
}
