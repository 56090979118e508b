package dev.pocketrec.sync

import dev.pocketrec.PocketRecException

/** A refresh did not succeed; what was there goes on. The kinds below say whose fault it was. */
open class SyncException(message: String, cause: Throwable? = null) : PocketRecException(message, cause)

/** The far side is not to be believed: a signature, a hash, a length or an age is wrong. Nothing of it was used. */
class TrustException(message: String, cause: Throwable? = null) : SyncException(message, cause)

/** The line failed; the next refresh goes on where this one stopped. */
open class LineException(message: String, cause: Throwable? = null) : SyncException(message, cause)

/** The store cannot be written or read: a full disk, missing permission, or another process at work. */
class StoreException(message: String, cause: Throwable? = null) : SyncException(message, cause)

/** The server has no such file; asking again does not help. */
internal class NotThereException(message: String) : LineException(message)

/** A release is signed, and yet does not work here. */
internal class BadReleaseException(message: String, cause: Throwable? = null) : SyncException(message, cause)
