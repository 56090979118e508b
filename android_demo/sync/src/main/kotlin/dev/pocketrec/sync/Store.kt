package dev.pocketrec.sync

import com.google.gson.GsonBuilder
import com.google.gson.JsonObject
import java.io.File
import java.io.IOException

/*
 * The store on the device, with the layout of the Python client, so that either opens the other's:
 *
 *     versions/<name>/   a bundle, checked before it got this name, never changed afterwards
 *     current            which version is current and which was before: one atomic rename is the whole swap
 *     state.json         the device's random id, releases that did not work here, and what the last refresh settled
 *     downloads/         files on their way        lock   one writer at a time
 *
 * Readers need no lock. Whatever a killed writer left is swept away by the next one.
 */

private const val MAX_STATE_BYTES = 1L shl 20
private const val MAX_BAD = 64 // releases that are remembered as not working, the newest
private const val SPARE_BYTES = 1L shl 20
private val NAME = Regex("[a-z][a-z0-9-]{0,31}-[1-9][0-9]{0,15}-[0-9a-f]{16}")
private val gson = GsonBuilder().serializeNulls().disableHtmlEscaping().create()

/** Names of the current version and of the one before it. */
internal data class Current(val current: String? = null, val previous: String? = null) {
    val release: Long? get() = current?.let(::releaseOf)
}

/** What the device remembers. [bad]: SHA-256 of a manifest → version of the runtime that could not use it. */
internal data class State(val device: String, val bad: Map<String, String> = emptyMap(), val settled: String = "") {
    fun withBad(manifest: String, runtime: String) = copy(bad = bad - manifest + (manifest to runtime))
}

internal class Store(val folder: File) {
    private val versions = File(folder, "versions")
    val downloads = File(folder, "downloads")

    /** Be the only writer, and clear away what a killed one left half made. */
    fun <T> writing(work: () -> T): T {
        val lock = try {
            makeFolder(versions)
            makeFolder(downloads)
            WriterLock.tryAcquire(File(folder, "lock"))
        } catch (error: IOException) {
            throw StoreException("$folder cannot be written (${error.message}); refresh from where it can", error)
        } ?: throw StoreException("another refresh is at work in $folder; try again when it is done")
        return lock.use {
            try {
                sweepLeftovers()
                work()
            } catch (error: IOException) {
                val remedy = "free some space or check permissions"
                throw StoreException("$folder cannot be written (${error.message}); $remedy", error)
            }
        }
    }

    private fun sweepLeftovers() {
        versions.names().filter { it.startsWith(".") }.forEach { File(versions, it).deleteRecursively() }
        folder.names().filter { it.startsWith(".") && it.endsWith(".tmp") }.forEach { File(folder, it).delete() }
    }

    /** Which version is current: of a lost or damaged note, the greatest release; nothing, if there is none. */
    fun current(): Current {
        val content = read("current")
        val current = content.text("current")?.takeIf(::isVersion)
            ?: versions.names().filter(::isVersion).maxByOrNull(::releaseOf)
        return Current(current, content.text("previous")?.takeIf(::isVersion))
    }

    private fun isVersion(name: String) = NAME.matches(name) && path(name).isDirectory

    fun path(name: String) = File(versions, name)

    /** Make a version the current one. */
    fun swap(name: String, previous: String?) {
        val content = JsonObject()
        content.addProperty("current", name)
        content.addProperty("previous", previous)
        atomicWrite(File(folder, "current"), gson.toJson(content).toByteArray())
    }

    /** What the device remembers; a damaged file counts as none, and the device gets a new id. */
    fun state(): State {
        val content = read("state.json")
        val bad = LinkedHashMap<String, String>()
        content.objectAt("bad")?.entrySet()?.forEach { (hash, runtime) -> runtime.asText()?.let { bad[hash] = it } }
        val device = content.text("device")?.takeIf { it.isNotEmpty() } ?: randomHex(16)
        return State(device, bad, content.text("settled").orEmpty())
    }

    fun remember(state: State) {
        val content = JsonObject()
        content.addProperty("device", state.device)
        val bad = JsonObject()
        state.bad.entries.toList().takeLast(MAX_BAD).forEach { (hash, runtime) -> bad.addProperty(hash, runtime) }
        content.add("bad", bad)
        content.addProperty("settled", state.settled)
        atomicWrite(File(folder, "state.json"), gson.toJson(content).toByteArray())
    }

    private fun read(name: String): JsonObject {
        val file = File(folder, name)
        val text = try {
            if (file.length() <= MAX_STATE_BYTES) file.readText() else ""
        } catch (_: IOException) {
            ""
        }
        return jsonObject(text) ?: JsonObject()
    }

    /** An empty folder for a version in the making. */
    fun begin(name: String): File {
        val partial = partial(name)
        partial.deleteRecursively()
        makeFolder(partial)
        return partial
    }

    /** Give a version that is whole and checked its name, once it is safely on the disk. */
    fun finish(name: String) {
        val partial = partial(name)
        partial.names().forEach { syncToDisk(File(partial, it)) }
        rename(partial, path(name))
    }

    private fun partial(name: String) = File(versions, ".$name")

    /** Delete what is neither current nor previous, and files on their way; what cannot be deleted waits. */
    fun sweep() {
        val now = current()
        versions.names().filter { it != now.current && it != now.previous }.forEach { path(it).deleteRecursively() }
        downloads.names().forEach { File(downloads, it).deleteRecursively() }
    }

    /** Give up a version that is damaged; if it is the current one, the one before it is. */
    fun drop(name: String) {
        val now = current()
        if (now.current == name && now.previous != null) swap(now.previous, null)
        path(name).deleteRecursively()
    }

    /** Make sure that there is space for so many bytes, and a little to spare. */
    fun roomFor(size: Long) {
        val free = folder.usableSpace
        if (free >= size + SPARE_BYTES) return
        throw StoreException("$folder has $free bytes free, and the release needs $size; free some space")
    }
}

private fun releaseOf(name: String): Long = name.split('-').let { it[it.size - 2].toLong() }
