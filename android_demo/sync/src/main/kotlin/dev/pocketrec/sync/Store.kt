package dev.pocketrec.sync

import dev.pocketrec.Bundle
import dev.pocketrec.BundleException
import dev.pocketrec.internal.StrictJson
import java.io.File
import java.io.IOException

/*
 * The store on the device. Its layout is that of the Python client, so each client opens the other's store:
 *
 *     versions/<name>/   a bundle; it was checked before it got this name, and never changes
 *     current            names of the current version and of the one before; a swap is one atomic rename
 *     state.json         the device's random id, the releases that failed here, and a summary of the last refresh
 *     downloads/         partial files
 *     lock               allows one writer at a time
 *
 * Readers need no lock. The next writer deletes what a killed writer left.
 */

private const val MAX_STATE_BYTES = 1 shl 20
private const val MAX_BAD = 64 // number of failed releases that are remembered
private const val SPARE_BYTES = 1L shl 20
private val NAME = Regex("[a-z][a-z0-9-]{0,31}-[1-9][0-9]{0,15}-[0-9a-f]{16}")

/** Names of the current version and of the one before it. */
internal data class Current(val current: String? = null, val previous: String? = null) {
    val release: Long? get() = current?.let(::releaseOf)
}

/** What the device remembers. [bad]: SHA-256 of a manifest → version of the runtime that failed with it. */
internal data class State(val device: String, val bad: Map<String, String> = emptyMap(), val settled: String = "") {
    fun withBad(manifest: String, runtime: String) = copy(bad = bad - manifest + (manifest to runtime))
}

internal class Store(val folder: File) {
    private val versions = File(folder, "versions")
    val downloads = File(folder, "downloads")

    /** Runs a block as the only writer, after deleting what a killed writer left. */
    fun <T> writing(work: () -> T): T {
        val lock = try {
            makeFolder(versions)
            makeFolder(downloads)
            WriterLock.tryAcquire(File(folder, "lock"))
        } catch (error: IOException) {
            val remedy = "choose a folder that the app may write"
            throw StoreException("$folder cannot be written (${error.message}); $remedy", error)
        } ?: throw StoreException("another process is refreshing $folder; try again later")
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

    /** The current version. If the file is missing or damaged, it is the greatest release in the store, if any. */
    fun current(): Current {
        val content = read("current")
        val current = content.text("current")?.takeIf(::isVersion)
            ?: versions.names().filter(::isVersion).maxByOrNull(::releaseOf)
        return Current(current, content.text("previous")?.takeIf(::isVersion))
    }

    private fun isVersion(name: String) = NAME.matches(name) && path(name).isDirectory

    fun path(name: String) = File(versions, name)

    /** Whether every file of a version has the size and the SHA-256 of its manifest. */
    fun isIntact(name: String): Boolean =
        try {
            Bundle.open(path(name))
            true
        } catch (_: BundleException) {
            false
        }

    /** Makes a version the current one. */
    fun swap(name: String, previous: String?) {
        write("current", mapOf("current" to name, "previous" to previous))
    }

    /** The state of the device. If the file is missing or damaged, the device gets a new id. */
    fun state(): State {
        val content = read("state.json")
        val bad = LinkedHashMap<String, String>()
        content.objectAt("bad")?.forEach { (hash, runtime) -> if (runtime is String) bad[hash] = runtime }
        val device = content.text("device")?.takeIf { it.isNotEmpty() } ?: randomHex(16)
        return State(device, bad, content.text("settled").orEmpty())
    }

    fun remember(state: State) {
        val bad = state.bad.entries.toList().takeLast(MAX_BAD).associate { it.toPair() }
        write("state.json", mapOf("device" to state.device, "bad" to bad, "settled" to state.settled))
    }

    private fun read(name: String): JsonObject =
        jsonObject(textOf(File(folder, name), MAX_STATE_BYTES)).orEmpty()

    private fun write(name: String, content: JsonObject) =
        atomicWrite(File(folder, name), StrictJson.write(content).toByteArray())

    /** An empty folder for a new version. */
    fun begin(name: String): File {
        val partial = partial(name)
        partial.deleteRecursively()
        makeFolder(partial)
        return partial
    }

    /** Gives a complete and checked version its name, after its files are synced to disk. */
    fun finish(name: String) {
        val partial = partial(name)
        partial.names().forEach { syncToDisk(File(partial, it)) }
        rename(partial, path(name))
    }

    private fun partial(name: String) = File(versions, ".$name")

    /** Deletes all versions except the current and the previous one, and all downloads. */
    fun sweep() {
        val now = current()
        versions.names().filter { it != now.current && it != now.previous }.forEach { path(it).deleteRecursively() }
        downloads.names().forEach { File(downloads, it).deleteRecursively() }
    }

    /** Deletes a damaged version; if it was the current one, the previous one becomes current. */
    fun drop(name: String) {
        val now = current()
        if (now.current == name && now.previous != null) swap(now.previous, null)
        path(name).deleteRecursively()
    }

    /** Checks that the disk has room for `size` bytes and a reserve. */
    fun roomFor(size: Long) {
        val free = folder.usableSpace
        if (free >= size + SPARE_BYTES) return
        throw StoreException("$folder has $free bytes free, and the release needs $size; free some space")
    }
}

private fun releaseOf(name: String): Long = name.split('-').let { it[it.size - 2].toLong() }
