package dev.pocketrec.sync

import dev.pocketrec.internal.MAX_MANIFEST_BYTES
import java.io.File
import java.io.IOException

/** A file as a manifest lists it. */
internal data class ListedFile(val sha256: String, val bytes: Long)

internal fun canBeManifest(target: TargetInfo) = target.length <= MAX_MANIFEST_BYTES

/**
 * The files that a manifest lists, by name; null if it is not a manifest. It is read before the bundle is complete;
 * opening the bundle checks it in full.
 */
internal fun readListing(manifest: File): Map<String, ListedFile>? {
    val files = jsonObject(textOf(manifest, MAX_MANIFEST_BYTES))?.objectAt("files") ?: return null
    return files.keys.associateWith { name ->
        val entry = files.objectAt(name) ?: return null
        ListedFile(entry.text("sha256") ?: return null, entry.count("bytes") ?: return null)
    }
}

/** The text of a file; empty if it is too long or cannot be read. */
internal fun textOf(file: File, maxBytes: Int): String =
    try {
        if (file.length() <= maxBytes) file.readText() else ""
    } catch (_: IOException) {
        ""
    }
