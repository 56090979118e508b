package dev.pocketrec.sync

import com.google.gson.JsonObject
import java.io.File
import java.io.IOException

private const val MAX_MANIFEST_BYTES = 1L shl 20

/** The files that a manifest lists, before the bundle is whole; opening the bundle checks all of it. */
internal data class ListedFile(val sha256: String, val bytes: Long)

internal fun canBeManifest(target: TargetInfo) = target.length <= MAX_MANIFEST_BYTES

/** By name; null if the file is no manifest. */
internal fun readListing(manifest: File): Map<String, ListedFile>? {
    val text = try {
        if (manifest.length() <= MAX_MANIFEST_BYTES) manifest.readText() else ""
    } catch (_: IOException) {
        ""
    }
    val files = jsonObject(text)?.objectAt("files") ?: return null
    return files.entrySet().associate { (name, value) ->
        val entry = value as? JsonObject ?: return null
        name to ListedFile(entry.text("sha256") ?: return null, entry.count("bytes") ?: return null)
    }
}
