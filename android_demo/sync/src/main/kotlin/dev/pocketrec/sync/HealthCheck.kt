package dev.pocketrec.sync

import dev.pocketrec.Recommender
import java.io.File
import java.io.IOException

private const val PROBES = 5

/** Opens a version as the app would and lets it recommend, before it becomes current. */
internal class HealthCheck(private val open: (File) -> Recommender) {
    fun tryOut(folder: File, info: ReleaseInfo) {
        try {
            open(folder).use { recommender ->
                val bundle = recommender.bundle
                if (bundle.manifest.model.sidSpace != info.sidSpace || bundle.modelId != info.model) {
                    throw BadReleaseException("release ${info.release} has another model than its signed data says")
                }
                probe(recommender, info.release, bundle.manifest.catalogue.items)
            }
        } catch (error: BadReleaseException) {
            throw error
        } catch (error: Exception) { // whatever it throws, the current version stays in use
            if (generateSequence<Throwable>(error) { it.cause }.any { it is IOException }) {
                // Its files have just been verified, so this is an error of the disk.
                throw StoreException("release ${info.release} cannot be read back (${error.message}); try again", error)
            }
            throw BadReleaseException("release ${info.release} does not work on this device: ${error.message}", error)
        }
    }

    /** Recommends for an empty and for a short history: the right number of distinct items, with finite scores. */
    private fun probe(recommender: Recommender, release: Long, items: Int) {
        var history = emptyList<String>()
        repeat(2) {
            val found = recommender.recommend(history, PROBES)
            val ids = found.items.map { it.itemId }
            val expected = minOf(PROBES, items - history.size)
            val isFinite = found.items.all { it.score.isFinite() }
            val isNew = ids.toSet().size == ids.size && ids.none(history::contains)
            if (ids.size != expected || !isFinite || !isNew) {
                throw BadReleaseException("release $release gives wrong recommendations")
            }
            history = ids.take(3)
        }
    }
}
