package dev.pocketrec.sync

import dev.pocketrec.internal.MANIFEST_FILE
import dev.pocketrec.internal.sha256Hex
import java.io.File
import java.io.IOException

private const val MAX_FILE_BYTES = 1L shl 32

/**
 * Assembles a release in the store. Each file comes from a stored version, from a patch, or as a whole file; in every
 * case it is checked against its signed hash.
 */
internal class Assembly(
    private val store: Store,
    private val downloads: Downloads,
    private val check: HealthCheck,
    private val conditions: (Long) -> Boolean,
    private val onEvent: (SyncEvent) -> Unit,
) {
    /** Where the files of the installed release came from. */
    var how = How.KEPT
        private set
    private val stored = LinkedHashMap<String, File>() // SHA-256 → a file of a stored version

    /** Puts a release into the store under its name, complete and tried out; false if the conditions refused. */
    fun install(release: Release): Boolean {
        if (store.path(release.name).isDirectory) return true
        listStored(store.current())
        val partial = store.begin(release.name)
        val wanted = wanted(release, manifestOf(release, partial))
        val missing = wanted.filterValues { it.sha256 !in stored }
        val patches = patchesFor(release, missing.keys)
        val cost = missing.entries.sumOf { (name, file) -> (patches[name]?.second ?: file).length }
        if (missing.isNotEmpty() && !conditions(cost)) return false
        store.roomFor(wanted.values.sumOf { it.length } + cost)
        val parts = wanted.filterNot { (name, file) ->
            val place = File(partial, name)
            patches[name]?.let { apply(it, file, place) } == true || keep(file, place)
        }.mapValues { (name, file) -> download(file, name) }
        place(parts, partial)
        onEvent(SyncEvent.Verifying(release.info.release))
        check.tryOut(partial, release.info)
        store.finish(release.name)
        return true
    }

    /** Lists the files of the stored versions by the hashes in their manifests. */
    private fun listStored(now: Current) {
        for (name in listOfNotNull(now.current, now.previous)) {
            val folder = store.path(name)
            readListing(File(folder, MANIFEST_FILE))?.forEach { (file, entry) ->
                stored[entry.sha256] = File(folder, file)
            }
        }
    }

    private fun manifestOf(release: Release, partial: File): File {
        if (!canBeManifest(release.manifest)) {
            throw BadReleaseException("release ${release.info.release}: the manifest is too large")
        }
        val place = File(partial, MANIFEST_FILE)
        copy(download(release.manifest, MANIFEST_FILE), place)
        return place
    }

    /** The files that the manifest lists. Each must be signed with the same hash and length. */
    private fun wanted(release: Release, manifest: File): Map<String, TargetInfo> {
        val number = release.info.release
        val listing = readListing(manifest) ?: throw BadReleaseException("release $number has an invalid manifest")
        return listing.toSortedMap().mapValues { (name, entry) ->
            val file = release.files[name]
            if (file == null || file.sha256 != entry.sha256 || file.length != entry.bytes) {
                throw BadReleaseException("release $number: $name is not signed as its manifest lists it")
            }
            if (file.length > MAX_FILE_BYTES) throw BadReleaseException("release $number: $name is too large")
            file
        }
    }

    /** For each missing file that the release has a patch of: a stored older version of it, and the patch. */
    private fun patchesFor(release: Release, missing: Set<String>): Map<String, Pair<File, TargetInfo>> {
        val found = HashMap<String, Pair<File, TargetInfo>>()
        for ((sha256, file) in stored) {
            val patch = if (file.name in missing) release.patchFrom(file.name, sha256) else null
            if (patch != null) found.putIfAbsent(file.name, file to patch)
        }
        return found
    }

    /** Copies a stored file if it still has the signed hash. (API 24 has no hard links.) */
    private fun keep(file: TargetInfo, place: File): Boolean {
        val kept = stored[file.sha256] ?: return false
        val isIntact = try {
            kept.matches(file.length, file.sha256)
        } catch (_: IOException) {
            false
        }
        if (isIntact) copy(kept, place)
        return isIntact
    }

    private fun download(file: TargetInfo, name: String): File {
        val part = downloads.download(file) { done -> onEvent(SyncEvent.Downloading(name, done, file.length)) }
        if (how == How.KEPT) how = How.FILES
        return part
    }

    /** Moves the downloads into the version. All are complete by now; an interrupted refresh can resume until then. */
    private fun place(parts: Map<String, File>, partial: File) {
        val left = parts.values.groupingBy { it }.eachCount().toMutableMap()
        for ((name, part) in parts) {
            val isLast = left.merge(part, -1, Int::plus) == 0
            if (isLast) rename(part, File(partial, name)) else copy(part, File(partial, name))
        }
    }

    /** Makes a file from a stored older one; false if that fails, and the whole file has to be fetched. */
    private fun apply(patch: Pair<File, TargetInfo>, file: TargetInfo, place: File): Boolean {
        val (base, signed) = patch
        try {
            val part = downloads.download(signed) { onEvent(SyncEvent.Downloading(place.name, it, signed.length)) }
            val patched = applyPatch(base.readBytes(), part.readBytes(), file.length)
            if (sha256Hex(patched) != file.sha256) return false
            place.writeBytes(patched)
        } catch (error: StoreException) {
            throw error
        } catch (_: SyncException) {
            return false
        } catch (_: IOException) {
            return false
        } catch (_: OutOfMemoryError) {
            return false
        } catch (_: LinkageError) { // zstd-jni is missing
            return false
        }
        how = How.PATCH
        return true
    }
}
