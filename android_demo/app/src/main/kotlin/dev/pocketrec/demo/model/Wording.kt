package dev.pocketrec.demo.model

import java.util.Locale

/** Numbers as people read them, in the user's locale. */
class Wording(private val locale: Locale) {
    /** "1.4", in milliseconds. */
    fun milliseconds(nanoseconds: Long): String = String.format(locale, "%.1f", nanoseconds / 1e6)

    /** "3.4 MB", "640 kB". */
    fun size(bytes: Long): String =
        if (bytes < MEGABYTE) String.format(locale, "%.0f kB", bytes / 1e3) else String.format(locale, "%.1f MB", bytes / 1e6)

    /** "3,421". */
    fun count(number: Int): String = String.format(locale, "%,d", number)

    /** A log-probability: "-2.31". */
    fun score(score: Float): String = String.format(locale, "%.2f", score)

    private companion object {
        const val MEGABYTE = 1_000_000
    }
}
