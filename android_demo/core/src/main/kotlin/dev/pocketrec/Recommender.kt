package dev.pocketrec

import java.io.File

/**
 * A model and a catalogue, ready to recommend. It holds no state of any user, and calls from several threads at once
 * are safe. Close it to free the model's memory; closing waits for running calls.
 */
class Recommender private constructor(internal val loaded: LoadedBundle) : AutoCloseable {
    val bundle: Bundle get() = loaded.bundle

    /** The catalogue. */
    val trie: ItemTrie get() = loaded.trie

    /**
     * Parts of the bundle that this library does not use yet: "crowd" (the item graph) and "words". Where there are any,
     * lists and scores are those of the model alone. The Python runtime joins all parts and recommends better; the
     * manifest's metrics have both, the model's under "alone", "student".
     */
    val unusedParts: List<String>
        get() = listOf("crowd" to GRAPH_FILE, "words" to WORDS_FILE).filter { it.second in bundle.manifest.files }.map { it.first }

    /**
     * Recommends the items most likely to come after a history.
     *
     * @param history item ids, oldest first; it may be empty; unknown ids are skipped and reported.
     * @param k how many items; fewer come back only if the catalogue, less the excluded items, has fewer.
     * @param excludeSeen leave out every item of the history.
     * @param within a sub-catalogue of [trie]; null: the whole catalogue.
     * @param beam beam width of the search; null: the model's own. Never below k.
     * @param control made by [control].
     * @throws ConfigException if an argument has a wrong value.
     */
    @JvmOverloads
    fun recommend(
        history: List<String>,
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: ItemTrie? = null,
        beam: Int? = null,
        control: Control? = null,
    ): Recommendations = evaluate(history, Query(k, excludeSeen, within, beam, control))

    internal fun evaluate(history: List<String>, query: Query): Recommendations {
        loaded.checkOpen()
        val (leaves, unknown) = loaded.findLeaves(history)
        val window = leaves.takeLast(loaded.maxHistory)
        val sids = loaded.sids(window)
        val engine = loaded.engine
        val items = loaded.retrieval.evaluate(query, leaves) { catalogue, excluded, beam, bias ->
            if (bias == null) {
                engine.search(sids, window.size, catalogue, excluded, beam)
            } else {
                engine.searchFrom(engine.read(sids, window.size, null), catalogue, excluded, beam, bias)
            }
        }
        return Recommendations(items, unknown)
    }

    /** Prepares a sub-catalogue and names it for [catalogue]; an older one of that name is replaced. */
    fun addCatalogue(name: String, ids: Collection<String>): ItemTrie = loaded.retrieval.addCatalogue(name, ids)

    /** A sub-catalogue that [addCatalogue] prepared. */
    fun catalogue(name: String): ItemTrie = loaded.retrieval.catalogue(name)

    /**
     * Checks filters, biases and diversity once, for use in any number of calls.
     *
     * @param allow ids of the only items that may come back; null: all of `within`.
     * @param deny ids of items that may not come back.
     * @param within a sub-catalogue of [trie]; null: the whole catalogue.
     * @param bias what is added to scores, by item id; with `segments`, by segment.
     * @param segments the segment of each item id, if biases are by segment.
     * @param minScore items with a lower score do not come back.
     * @param diversity 0: by score alone; up to 1: each item as different as possible from those before it.
     */
    @JvmOverloads
    fun control(
        allow: Collection<String>? = null,
        deny: Collection<String> = emptyList(),
        within: ItemTrie? = null,
        bias: Map<String, Double>? = null,
        segments: Map<String, String>? = null,
        minScore: Double? = null,
        diversity: Double = 0.0,
    ): Control = prepare(trie, loaded.retrieval.catalogue(within), allow, deny, bias, segments, minScore, diversity)

    /** Begins a session: a growing history whose read items are kept by the model. */
    @JvmOverloads
    fun session(history: List<String> = emptyList()): Session = Session(loaded, history, false)

    /**
     * Resumes a session that [Session.toBytes] saved, here or in Python.
     *
     * @throws SessionException if it is damaged, too large or of another version.
     */
    fun restoreSession(saved: ByteArray): Session {
        val content = SavedSession.parse(saved)
        return Session(loaded, content.items, content.model != bundle.modelId)
    }

    /** How much each item of a history changes an item's score; costs one search for each. */
    fun explain(history: List<String>, itemId: String): Explanation {
        if (itemId !in trie) {
            throw ConfigException("the catalogue has no item ${quote(itemId)}; give one of its ids")
        }
        val window = loaded.findLeaves(history).first.takeLast(loaded.maxHistory)
        val alone = trie.filterIds(listOf(itemId))
        fun score(leaves: List<Int>): Float =
            loaded.engine.search(loaded.sids(leaves), leaves.size, alone, IntArray(0), 1).scores.firstOrNull()
                ?: Float.NEGATIVE_INFINITY
        val score = score(window)
        val drivers = window.indices.map { place ->
            val without = window.filterIndexed { other, _ -> other != place }
            Driver(trie.table.id(window[place]), score - score(without))
        }
        return Explanation(itemId, score, drivers)
    }

    override fun close() = loaded.close()

    companion object {
        /**
         * Opens a bundle, checks all of it, and loads its model.
         *
         * @throws BundleException if the bundle is damaged or its files do not belong together.
         */
        @JvmStatic
        @JvmOverloads
        fun load(folder: File, options: RecommenderOptions = RecommenderOptions()): Recommender =
            Recommender(LoadedBundle.load(folder, options))
    }
}
