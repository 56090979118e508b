package dev.pocketrec.sync

import dev.pocketrec.Recommender
import java.io.File
import java.io.IOException

private const val PROBES = 5

/** Opens a version as the app would, and asks it for recommendations, before it becomes current. */
internal class HealthCheck(private val open: (File) -> Recommender) {
    fun tryOut(folder: File, info: ReleaseInfo) {
        try {
            open(folder).use { recommender ->
                val bundle = recommender.bundle
                if (bundle.manifest.model.sidSpace != info.sidSpace || bundle.modelId != info.model) {
                    throw BadReleaseException("release ${info.release} holds another model than the one that is signed")
                }
                probe(recommender, info.release, bundle.manifest.catalogue.items)
            }
        } catch (error: BadReleaseException) {
            throw error
        } catch (error: Exception) { // whatever a runtime below throws, the version before goes on
            if (generateSequence<Throwable>(error) { it.cause }.any { it is IOException }) {
                // Its files were just verified, so the disk is to blame.
                throw StoreException("release ${info.release} cannot be read back (${error.message}); try again", error)
            }
            throw BadReleaseException("release ${info.release} does not work here: ${error.message}", error)
        }
    }

    /** Recommend after nothing and after a few items: as many as there are, each once, with finite scores. */
    private fun probe(recommender: Recommender, release: Long, items: Int) {
        var history = emptyList<String>()
        repeat(2) {
            val found = recommender.recommend(history, PROBES)
            val ids = found.items.map { it.itemId }
            val expected = minOf(PROBES, items - history.size)
            val isFinite = found.items.all { it.score.isFinite() }
            val isNew = ids.toSet().size == ids.size && ids.none(history::contains)
            if (ids.size != expected || !isFinite || !isNew) {
                throw BadReleaseException("release $release does not recommend what it should")
            }
            history = ids.take(3)
        }
    }
}
