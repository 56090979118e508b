package dev.pocketrec.demo.model

import dev.pocketrec.Item
import dev.pocketrec.ItemTrie
import dev.pocketrec.PocketRecException
import dev.pocketrec.Recommender
import dev.pocketrec.Session

/**
 * A recommender with the session of one user and a search over its catalogue. Only the worker thread may use it.
 *
 * @param saved bytes from [saved] in an earlier process; if they cannot be restored, a new session begins
 */
class UserRecommender(private val recommender: Recommender, saved: ByteArray?) : AutoCloseable {
    private val catalogue = CatalogueSearch(recommender.trie)
    private var session = restored(saved)
    private var within: Pair<String, ItemTrie>? = null

    val facts = ModelFacts(recommender.bundle.bytes, recommender.trie.size, recommender.unusedParts.isNotEmpty())

    /** The items of the session, oldest first. */
    val history: List<Item> get() = session.history.map(catalogue::item)

    fun matching(query: String): List<Item> = catalogue.matching(query)

    /**
     * Recommends after [history], best first. If [query] is not null, only items that match it come back.
     *
     * If the history continues the one before, the model reads only the new items; else it reads all of them again.
     */
    fun recommend(history: List<String>, query: String?): List<Pick> {
        follow(history)
        val found = session.recommend(k = PICKS, within = query?.let(::subCatalogue))
        return found.map { Pick(catalogue.item(it.itemId), it.score) }
    }

    /** The item of [history] that raises the score of [item] most; null if none does. */
    fun because(history: List<String>, item: Item): Item? =
        recommender.explain(history, item.itemId).drivers.firstOrNull { it.change > 0 }?.let { catalogue.item(it.itemId) }

    /** The session for a later process. */
    fun saved(): ByteArray = session.toBytes()

    override fun close() = recommender.close()

    private fun follow(history: List<String>) {
        val known = session.history
        if (history.size >= known.size && history.subList(0, known.size) == known) {
            history.drop(known.size).forEach(session::observe)
        } else {
            session = recommender.session(history)
        }
    }

    /** The sub-catalogue of a query; it is kept, because every change of the history uses it again. */
    private fun subCatalogue(query: String): ItemTrie {
        within?.let { (last, trie) -> if (last == query) return trie }
        val trie = recommender.trie.filterIds(matching(query).map { it.itemId })
        within = query to trie
        return trie
    }

    private fun restored(saved: ByteArray?): Session {
        if (saved == null) return recommender.session()
        return try {
            recommender.restoreSession(saved)
        } catch (_: PocketRecException) {
            recommender.session()
        }
    }

    private companion object {
        const val PICKS = 10
    }
}
