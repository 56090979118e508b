package dev.pocketrec.demo.model

import dev.pocketrec.Item
import dev.pocketrec.ItemTrie
import dev.pocketrec.PocketRecException
import dev.pocketrec.Recommender
import dev.pocketrec.Session

/**
 * A recommender with one user's session and the search in its catalogue. It belongs to the worker thread.
 *
 * @param saved what [saved] gave in an earlier process; a session that cannot be restored begins anew
 */
class Engine(private val recommender: Recommender, saved: ByteArray?) : AutoCloseable {
    private val catalogue = Catalogue(recommender.trie)
    private var session = restored(saved)
    private var within: Pair<String, ItemTrie>? = null

    val facts = ModelFacts(recommender.bundle.bytes, recommender.trie.size)

    /** What the session has, oldest first. */
    val history: List<Item> get() = session.history.map(catalogue::item)

    fun matching(query: String): List<Item> = catalogue.matching(query)

    /**
     * What may come after [history], best first; where [query] is not null, only of what matches it.
     *
     * A history that goes on from the one before costs its new items; any other one is read anew.
     */
    fun recommend(history: List<String>, query: String?): List<Pick> {
        follow(history)
        val found = session.recommend(k = PICKS, within = query?.let(::subCatalogue))
        return found.map { Pick(catalogue.item(it.itemId), it.score) }
    }

    /** The item of [history] that speaks most for [item]; null where none does. */
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

    /** Made once for a query: it is asked with every change of the history. */
    private fun subCatalogue(query: String): ItemTrie {
        within?.let { (made, trie) -> if (made == query) return trie }
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
