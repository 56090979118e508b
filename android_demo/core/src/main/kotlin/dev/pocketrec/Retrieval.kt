package dev.pocketrec

import java.util.concurrent.ConcurrentHashMap
import kotlin.math.abs

private const val MAX_SCORE = 1e9f // no log-probability of a valid model comes near, with any bias
private const val POOL = 4 // diversity chooses among this many times k candidates

/** The parameters of one call. */
internal class Query(
    val k: Int, val excludeSeen: Boolean, val within: ItemTrie?, val beam: Int?, val control: Control?,
)

/** Finds the best leaves of a (sub-)catalogue. `excluded`: leaf rows, ascending; `bias`: by node of the catalogue. */
internal fun interface Search {
    fun find(catalogue: ItemTrie, excluded: IntArray, beam: Int, bias: FloatArray?): Found
}

/**
 * The rule that turns a query into a list: search, add cold items, drop low scores, diversify, keep the best k. It runs
 * no model: [Recommender] and [Session] hand in the search. Calls from several threads at once are safe.
 *
 * @param beam the model's own beam width
 * @param cold null if the bundle has no cold items
 */
internal class Retrieval(private val trie: ItemTrie, private val beam: Int, private val cold: ColdItems?) {
    private val named = ConcurrentHashMap<String, ItemTrie>()

    /** Names a sub-catalogue; an older one of that name is replaced. */
    fun addCatalogue(name: String, ids: Collection<String>): ItemTrie = trie.filterIds(ids).also { named[name] = it }

    /** The sub-catalogue of a name. */
    fun catalogue(name: String): ItemTrie = named[name] ?: throw ConfigException(
        "there is no catalogue ${quote(name)} (there are: " +
            "${named.keys.sorted().joinToString().ifEmpty { "none yet" }}); make it with addCatalogue",
    )

    /** The catalogue to recommend from; refused if it belongs to another one. */
    fun catalogue(within: ItemTrie?): ItemTrie {
        if (within != null && within.table !== trie.table) {
            throw ConfigException("`within` is not a sub-catalogue of this catalogue; make one with trie.filterIds")
        }
        return within ?: trie
    }

    /** The best k items, best first. `history`: leaf rows of the whole history, oldest first. */
    fun evaluate(query: Query, history: List<Int>, search: Search): List<Recommendation> {
        if (query.k < 1) throw ConfigException("k is ${query.k}; it must be at least 1")
        if (query.beam != null && query.beam < 1) throw ConfigException("beam is ${query.beam}; it must be at least 1")
        val control = control(query)
        val catalogue = control.catalogue
        val excluded = if (query.excludeSeen) excludedLeaves(catalogue, history) else IntArray(0)
        val k = minOf(query.k, catalogue.size)
        val wanted = minOf(if (control.diversity == 0.0) k else POOL * k, catalogue.size - excluded.size)
        if (wanted == 0) return emptyList()
        var found = searched(wanted, search, control, excluded, query.beam ?: beam)
        if (cold != null) found = withCold(cold, control, history, excluded, found)
        found = found.filter { score -> score >= control.minScore && abs(score) <= MAX_SCORE }
        val places = if (control.diversity == 0.0) found.leaves.indices.take(k) else {
            diverse(found, catalogue, k, control.diversity)
        }
        return places.map { place ->
            val row = catalogue.rowOf(found.leaves[place])
            Recommendation(trie.table.id(row), found.scores[place], trie.table.title(row))
        }
    }

    private fun control(query: Query): Control {
        if (query.control == null) return Control(catalogue(query.within), null, Float.NEGATIVE_INFINITY, 0.0)
        if (query.within != null) {
            throw ConfigException("`within` and `control` are both given; give `within` to recommender.control")
        }
        if (query.control.catalogue.table !== trie.table) {
            throw ConfigException("`control` belongs to another catalogue; make it with recommender.control")
        }
        return query.control
    }

    /** Leaf rows of the history's items in a (sub-)catalogue, ascending, each once. */
    private fun excludedLeaves(catalogue: ItemTrie, history: List<Int>): IntArray =
        history.mapNotNullTo(sortedSetOf()) { row -> catalogue.leafOf(row).takeIf { it >= 0 } }.toIntArray()

    /** Searches for `wanted` leaves, again in a wider beam if excluded leaves crowded the first one. */
    private fun searched(wanted: Int, search: Search, control: Control, excluded: IntArray, beam: Int): Found {
        // Every prefix in a beam leads to a leaf of its own: a beam need not be wider than the catalogue, and `enough`
        // leaves room for all wanted leaves.
        val width = minOf(maxOf(beam, wanted), control.catalogue.size)
        val enough = wanted + excluded.size
        val found = search.find(control.catalogue, excluded, width, control.bias)
        if (found.size >= wanted || width >= enough) return found
        return search.find(control.catalogue, excluded, enough, control.bias)
    }

    /** Adds the cold items, in the order of scores. */
    private fun withCold(
        cold: ColdItems, control: Control, history: List<Int>, excluded: IntArray, found: Found,
    ): Found {
        val catalogue = control.catalogue
        fun biasOf(leaf: Int) = if (control.bias == null) 0f else control.bias[catalogue.nodes.internal + leaf]
        val scores = cold.scored(
            history.takeLast(ColdItems.RECENT).reversed(),
            found.leaves.map { catalogue.rowOf(it) },
            found.leaves.indices.map { found.scores[it] - biasOf(found.leaves[it]) },
        )
        if (scores.isEmpty()) return found
        val best = LinkedHashMap<Int, Float>()
        for (place in found.leaves.indices) best[found.leaves[place]] = found.scores[place]
        val isExcluded = excluded.toHashSet()
        for ((row, score) in scores) {
            val leaf = catalogue.leafOf(row)
            if (leaf < 0 || leaf in isExcluded) continue
            val total = score + biasOf(leaf)
            best[leaf] = maxOf(total, best[leaf] ?: total)
        }
        val order = best.entries.sortedByDescending { it.value }
        return Found(IntArray(order.size) { order[it].key }, FloatArray(order.size) { order[it].value })
    }
}
