package dev.pocketrec.sync

import java.io.File
import java.io.IOException

private const val MAX_FILE_BYTES = 1L shl 32

/**
 * Puts a release together in the store. Every file is checked against its signed hash, however it came: from a version
 * that is here already, as a patch, or whole.
 */
internal class Assembly(
    private val store: Store,
    private val downloads: Downloads,
    private val check: HealthCheck,
    private val conditions: (Long) -> Boolean,
    private val onEvent: (SyncEvent) -> Unit,
) {
    /** By what means, once something is installed. */
    var how = How.KEPT
        private set
    private val here = LinkedHashMap<String, File>() // SHA-256 → a file of a kept version

    /** Bring a release into the store under its name, tried and whole; false if the conditions said no. */
    fun install(release: Release): Boolean {
        if (store.path(release.name).isDirectory) return true
        lookAround(store.current())
        val partial = store.begin(release.name)
        val wanted = wanted(release, manifestOf(release, partial))
        val patch = patchFor(release)?.takeIf { wanted[TRIE_FILE]?.sha256 !in here }
        val missing = wanted.filterValues { it.sha256 !in here }
        val cost = missing.entries.sumOf { (name, file) ->
            if (patch != null && name == TRIE_FILE) patch.second.length else file.length
        }
        if (missing.isNotEmpty() && !conditions(cost)) return false
        store.roomFor(wanted.values.sumOf { it.length } + cost)
        val parts = wanted.filterNot { (name, file) ->
            val place = File(partial, name)
            (name == TRIE_FILE && patch != null && apply(patch, file, place)) || keep(file, place)
        }.mapValues { (name, file) -> download(file, name) }
        place(parts, partial)
        onEvent(SyncEvent.Verifying(release.info.release))
        check.tryOut(partial, release.info)
        store.finish(release.name)
        return true
    }

    /** Note the files of the versions that are here, by what their manifests say of them. */
    private fun lookAround(now: Current) {
        for (name in listOfNotNull(now.current, now.previous)) {
            val folder = store.path(name)
            readListing(File(folder, MANIFEST_FILE))?.forEach { (file, entry) ->
                here[entry.sha256] = File(folder, file)
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

    /** The files that the manifest lists, which must be those that are signed. */
    private fun wanted(release: Release, manifest: File): Map<String, TargetInfo> {
        val number = release.info.release
        val listing = readListing(manifest) ?: throw BadReleaseException("release $number has no usable manifest")
        return listing.toSortedMap().mapValues { (name, entry) ->
            val file = release.files[name]
            if (file == null || file.sha256 != entry.sha256 || file.length != entry.bytes) {
                throw BadReleaseException("release $number: $name is not signed as its manifest lists it")
            }
            if (file.length > MAX_FILE_BYTES) throw BadReleaseException("release $number: $name is too large")
            file
        }
    }

    /** A kept catalogue and the patch that makes the new one of it, if there are both. */
    private fun patchFor(release: Release): Pair<File, TargetInfo>? =
        here.entries.filter { it.value.name == TRIE_FILE }.firstNotNullOfOrNull { (sha256, file) ->
            release.patchFrom(sha256)?.let { file to it }
        }

    /** Use a file that is here, if it still is what is signed. API 24 has no hard links, so it is a copy. */
    private fun keep(file: TargetInfo, place: File): Boolean {
        val kept = here[file.sha256] ?: return false
        val isStill = try {
            kept.matches(file.length, file.sha256)
        } catch (_: IOException) {
            false
        }
        if (isStill) copy(kept, place)
        return isStill
    }

    private fun download(file: TargetInfo, name: String): File {
        val part = downloads.download(file) { done -> onEvent(SyncEvent.Downloading(name, done, file.length)) }
        if (how == How.KEPT) how = How.FILES
        return part
    }

    /** Only now that all are here do they leave the downloads: a refresh that is cut goes on with them. */
    private fun place(parts: Map<String, File>, partial: File) {
        val left = parts.values.groupingBy { it }.eachCount().toMutableMap()
        for ((name, part) in parts) {
            val isLast = left.merge(part, -1, Int::plus) == 0
            if (isLast) rename(part, File(partial, name)) else copy(part, File(partial, name))
        }
    }

    /** Make the catalogue from a kept one; false, whatever went wrong, means: fetch it whole. */
    private fun apply(patch: Pair<File, TargetInfo>, file: TargetInfo, place: File): Boolean {
        val (base, signed) = patch
        try {
            val part = downloads.download(signed) { onEvent(SyncEvent.Downloading(place.name, it, signed.length)) }
            val made = applyPatch(base.readBytes(), part.readBytes(), file.length)
            if (sha256Hex(made) != file.sha256) return false
            place.writeBytes(made)
        } catch (error: StoreException) {
            throw error
        } catch (_: SyncException) {
            return false
        } catch (_: IOException) {
            return false
        } catch (_: OutOfMemoryError) {
            return false
        } catch (_: LinkageError) { // no native zstd for this device
            return false
        }
        how = How.PATCH
        return true
    }
}
