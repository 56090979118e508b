package dev.pocketrec.sync

/** Events of a refresh; they arrive on the thread of the refresh. */
sealed class SyncEvent {
    /** The repository is searched for new releases. */
    object Checking : SyncEvent()

    /** A file is being downloaded: [done] of [total] bytes. */
    data class Downloading(val file: String, val done: Long, val total: Long) : SyncEvent()

    /** All files are downloaded; the new version is opened and recommends once, as a test. */
    data class Verifying(val release: Long) : SyncEvent()

    /** Another version is current. */
    data class Swapped(val release: Long) : SyncEvent()

    /** A release does not work on this device, or a background refresh failed. The current version stays in use. */
    data class Failed(val error: Exception) : SyncEvent()
}

/** When the server is contacted. */
enum class SyncMode {
    /** Never. */
    LOCAL,

    /** Before the first use. If that fails, the stored version is used. */
    LATEST,

    /** The stored version is used at once and refreshed in the background. An empty store is filled first. */
    LOCAL_THEN_BACKGROUND,
}

/** The outcome of a refresh. */
enum class How {
    /** There is nothing new for this device. */
    UNCHANGED,

    /** Whole files were fetched. */
    FILES,

    /** At least one file came as a patch. */
    PATCH,

    /** All files were stored already. */
    KEPT,

    /** The conditions refused the download. */
    POSTPONED,
}

/** The result of a refresh. [bytes] and [requests] count the release's files, without the signed metadata. */
data class RefreshResult(val changed: Boolean, val release: Long?, val bytes: Long, val requests: Int, val how: How)

/** The state of the store. [bad]: SHA-256 of manifests that failed here; [error]: of the last background refresh. */
data class Status(
    val channel: String,
    val current: String?,
    val previous: String?,
    val release: Long?,
    val bad: List<String>,
    val error: String?,
)
