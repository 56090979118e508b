package dev.pocketrec

/** Base of all errors of this library. The message says what is wrong, where, and what to do. */
open class PocketRecException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    RuntimeException(message, cause)

/** A bundle is damaged, incomplete, of another version, or its files do not belong together. */
class BundleException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    PocketRecException(message, cause)

/** A saved session is damaged, too large, or of another version. */
class SessionException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    PocketRecException(message, cause)

/** An argument is wrong, or a closed recommender was used. */
class ConfigException @JvmOverloads constructor(message: String, cause: Throwable? = null) :
    PocketRecException(message, cause)

internal fun closedError() = ConfigException("this recommender was closed; load it again")
