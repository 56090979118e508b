package dev.pocketrec

/** Every error raised on purpose; the message says what is wrong, where, and what to do. */
open class PocketRecException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    RuntimeException(message, cause)

/** A bundle is damaged, incomplete, of another version, or its parts do not belong together. */
class BundleException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    PocketRecException(message, cause)

/** A saved session is damaged, too large, or of another version. */
class SessionException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    PocketRecException(message, cause)

/** An argument is wrong, or something was used after it was closed. */
class ConfigException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    PocketRecException(message, cause)

/** What is wrong with a file, as the end of a sentence that begins with its name; never leaves the library. */
internal class Fault(message: String) : Exception(message)

internal fun oneLine(error: Throwable): String =
    (error.message ?: error.toString()).split(Regex("\\s+")).joinToString(" ").take(300)
