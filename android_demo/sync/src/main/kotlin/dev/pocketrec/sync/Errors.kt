package dev.pocketrec.sync

import dev.pocketrec.PocketRecException

/** A refresh failed. The version that was current stays in use. The classes below say what failed. */
open class SyncException(message: String, cause: Throwable? = null) : PocketRecException(message, cause)

/** The repository is not trusted: a signature, a hash, a length or an expiry date is wrong. Nothing of it was used. */
class TrustException(message: String, cause: Throwable? = null) : SyncException(message, cause)

/** The network failed. The next refresh resumes the download. */
open class NetworkException(message: String, cause: Throwable? = null) : SyncException(message, cause)

/** The store cannot be written or read: a full disk, a missing permission, or another process that refreshes it. */
class StoreException(message: String, cause: Throwable? = null) : SyncException(message, cause)

/** The server does not have the file; another attempt would not help. */
internal class NotFoundException(message: String) : NetworkException(message)

/** A release is signed, but does not work on this device. */
internal class BadReleaseException(message: String, cause: Throwable? = null) : SyncException(message, cause)
