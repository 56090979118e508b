package dev.pocketrec.internal

/** What is wrong with a file, as the second half of a sentence that begins with its name; never leaves the library. */
internal class Fault(message: String) : Exception(message)

/** The message of a library's error, as one short line. */
internal fun oneLine(error: Throwable): String =
    (error.message ?: error.toString()).split(Regex("\\s+")).joinToString(" ").take(300)
