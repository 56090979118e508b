package dev.pocketrec.sync

/** What a refresh tells its caller while it works, in the thread of the refresh. */
sealed class SyncEvent {
    /** Asking what is new. */
    object Checking : SyncEvent()

    /** A file is on its way: [done] of [total] bytes. */
    data class Downloading(val file: String, val done: Long, val total: Long) : SyncEvent()

    /** All files are here; the new version is opened and asked for a recommendation. */
    data class Verifying(val release: Long) : SyncEvent()

    /** Another version is current. */
    data class Swapped(val release: Long) : SyncEvent()

    /** A release did not work here, or a refresh in the background failed; what was there goes on. */
    data class Failed(val error: Exception) : SyncEvent()
}

/** When the server is asked. */
enum class SyncMode {
    /** Never. */
    LOCAL,

    /** Before the first use; if that fails and something is there, it is used. */
    LATEST,

    /** What is there is used at once, and refreshed meanwhile; an empty store is filled first. */
    LOCAL_THEN_BACKGROUND,
}

/** What a refresh came to. */
enum class How {
    /** There is nothing new for this device. */
    UNCHANGED,

    /** Whole files were fetched. */
    FILES,

    /** The catalogue came as a patch. */
    PATCH,

    /** All bytes were here already. */
    KEPT,

    /** The conditions said no. */
    POSTPONED,
}

/** What a refresh did. [bytes] and [requests] are those of the release's files; signed metadata is not counted. */
data class RefreshResult(val changed: Boolean, val release: Long?, val bytes: Long, val requests: Int, val how: How)

/** What is in the store. [bad]: SHA-256 of manifests that failed here; [error]: of the last refresh by itself. */
data class Status(
    val channel: String,
    val current: String?,
    val previous: String?,
    val release: Long?,
    val bad: List<String>,
    val error: String?,
)
