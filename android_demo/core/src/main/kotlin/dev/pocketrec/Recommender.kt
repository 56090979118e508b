package dev.pocketrec

import java.io.File
import java.nio.IntBuffer
import java.util.concurrent.ConcurrentHashMap
import kotlin.math.abs

private const val MAX_SCORE = 1e9f // no log-probability of a sound model, bias included, comes near
private const val POOL = 4 // times k items to choose different ones from

/**
 * A model and a catalogue, ready to recommend. It holds no state of any user, and calls from several threads at once
 * are safe. Close it to let go of the model's memory; closing waits for calls that run.
 */
class Recommender private constructor(
    val bundle: Bundle,
    val trie: ItemTrie,
    internal val engine: Engine,
    private val cold: ColdItems?,
) : AutoCloseable {
    private val named = ConcurrentHashMap<String, ItemTrie>()
    @Volatile private var closed = false

    /**
     * Recommends the items most likely to come after a history.
     *
     * @param history item ids, oldest first; none is fine; unknown ones are skipped and reported.
     * @param k how many; fewer come back only if the catalogue, less the excluded, has fewer.
     * @param excludeSeen leave out every item of the history.
     * @param within a part of [trie]; null: all of it.
     * @param beam prefixes the search keeps; null: the model's own. Never fewer than k.
     * @param control what [control] prepared.
     * @throws ConfigException on arguments of wrong values.
     */
    @JvmOverloads
    fun recommend(
        history: List<String>,
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: ItemTrie? = null,
        beam: Int? = null,
        control: Control? = null,
    ): Recommendations {
        val (leaves, unknown) = findLeaves(history)
        val recent = leaves.takeLast(bundle.manifest.model.maxHistory)
        val sids = sids(recent)
        val search = Search { part, exclude, width, bias ->
            if (bias == null) {
                engine.search(sids, recent.size, part, exclude, width)
            } else {
                engine.searchFrom(engine.read(sids, recent.size, null), part, exclude, width, bias)
            }
        }
        return choose(search, leaves, Ask(k, excludeSeen, within, beam, control), unknown)
    }

    /** Prepares a part of the catalogue and gives it a name for [catalogue]; an older one of that name is replaced. */
    fun addCatalogue(name: String, ids: Collection<String>): ItemTrie = trie.filterIds(ids).also { named[name] = it }

    /** A part that [addCatalogue] prepared. */
    fun catalogue(name: String): ItemTrie = named[name] ?: throw ConfigException(
        "there is no catalogue ${quote(name)} (there are: " +
            "${named.keys.sorted().joinToString().ifEmpty { "none yet" }}); make it with addCatalogue",
    )

    /**
     * Prepares wishes once, for any number of calls.
     *
     * @param allow ids of the only items that may come back; null: all of `within`.
     * @param deny ids of items that may not.
     * @param bias what is added to scores, by item id; with `segments` (by item id), by segment.
     * @param minScore items that score less do not come back.
     * @param diversity 0: by score alone; up to 1: ever more different from those before.
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
    ): Control = prepare(trie, part(within), allow, deny, bias, segments, minScore, diversity)

    /** Begins a session: a history that grows, and what the model has read of it is kept. */
    @JvmOverloads
    fun session(history: List<String> = emptyList()): Session = Session(this, history, false)

    /**
     * Goes on with a session that [Session.toBytes] saved, here or in Python.
     *
     * @throws SessionException if it is damaged, too large or of another version.
     */
    fun restoreSession(saved: ByteArray): Session {
        val content = SavedSession.parse(saved)
        return Session(this, content.items, content.model != bundle.modelId)
    }

    /** Says what each item of the history does for an item's score. Costs a call for each. */
    fun explain(history: List<String>, itemId: String): Explanation {
        if (itemId !in trie) {
            throw ConfigException("the catalogue has no item ${quote(itemId)}; give one of its ids")
        }
        val recent = findLeaves(history).first.takeLast(bundle.manifest.model.maxHistory)
        val alone = trie.filterIds(listOf(itemId))
        fun score(leaves: List<Int>): Float =
            engine.search(sids(leaves), leaves.size, alone, IntArray(0), 1).scores.firstOrNull()
                ?: Float.NEGATIVE_INFINITY
        val score = score(recent)
        val drivers = recent.indices.map { place ->
            val without = recent.filterIndexed { other, _ -> other != place }
            Driver(trie.table.id(recent[place]), score - score(without))
        }
        return Explanation(itemId, score, drivers)
    }

    override fun close() {
        closed = true
        engine.close()
    }

    internal fun recommendState(state: State, seen: List<Int>, ask: Ask): Recommendations {
        val search = Search { part, exclude, width, bias -> engine.searchFrom(state, part, exclude, width, bias) }
        return choose(search, seen, ask, emptyList())
    }

    /** Leaf rows of a history's known items, and its unknown ids, each once. */
    internal fun findLeaves(history: List<String>): Pair<List<Int>, List<String>> {
        val unknown = LinkedHashSet<String>()
        val leaves = ArrayList<Int>(history.size)
        for (id in history) {
            val row = trie.table.find(id)
            if (row >= 0) leaves.add(row) else unknown.add(id)
        }
        return Pair(leaves, unknown.toList())
    }

    /** Semantic IDs of some leaves of the whole catalogue, as the graphs read them. */
    internal fun sids(leaves: List<Int>): IntBuffer {
        val out = ints(leaves.size * trie.levels)
        for (leaf in leaves) {
            for (level in 0 until trie.levels) out.put(trie.code(leaf, level))
        }
        out.rewind()
        return out
    }

    internal fun checkOpen() {
        if (closed) throw closedError()
    }

    /** Searches the catalogue that is asked for, and chooses k of what is found. */
    private fun choose(search: Search, seen: List<Int>, ask: Ask, unknown: List<String>): Recommendations {
        checkOpen()
        if (ask.k < 1) throw ConfigException("k is ${ask.k}; it must be at least 1")
        if (ask.beam != null && ask.beam < 1) throw ConfigException("beam is ${ask.beam}; it must be at least 1")
        val wish = wish(ask)
        val part = wish.catalogue
        val exclude = if (!ask.excludeSeen) IntArray(0) else {
            seen.mapNotNullTo(sortedSetOf()) { leaf -> part.leafOf(leaf).takeIf { it >= 0 } }.toIntArray()
        }
        val pool = if (wish.diversity == 0.0) ask.k.toLong() else POOL.toLong() * ask.k
        val wanted = minOf(pool, (part.size - exclude.size).toLong()).toInt()
        if (wanted == 0) return Recommendations(emptyList(), unknown)
        val width = maxOf(ask.beam ?: bundle.manifest.model.beam, wanted)
        var found = search.find(part, exclude, width, wish.bias)
        // Seen items can crowd a narrow beam. One as wide as the wanted and the excluded together has enough left,
        // since every prefix it keeps leads to a leaf of its own.
        if (found.size < wanted && width < wanted + exclude.size) {
            found = search.find(part, exclude, wanted + exclude.size, wish.bias)
        }
        if (cold != null) found = withCold(cold, part, seen, exclude, found, wish.bias)
        found = found.keep { score -> score >= wish.minScore && abs(score) <= MAX_SCORE }
        val places = if (wish.diversity == 0.0) found.leaves.indices.take(ask.k) else {
            diverse(found, part, ask.k, wish.diversity)
        }
        val items = places.map { place ->
            val row = part.rowOf(found.leaves[place])
            Recommendation(trie.table.id(row), found.scores[place], trie.table.title(row))
        }
        return Recommendations(items, unknown)
    }

    /** Lets new items take the places that those like them give them. */
    private fun withCold(
        cold: ColdItems, part: ItemTrie, seen: List<Int>, exclude: IntArray, found: Found, bias: FloatArray?,
    ): Found {
        fun own(leaf: Int) = if (bias == null) 0f else bias[part.nodes.internal + leaf]
        val likely = found.leaves.indices.map { found.scores[it] - own(found.leaves[it]) }
        val recent = seen.takeLast(ColdItems.RECENT).reversed()
        val gained = cold.scored(recent, found.leaves.map { part.rowOf(it) }, likely)
        if (gained.isEmpty()) return found
        val best = LinkedHashMap<Int, Float>()
        for (place in found.leaves.indices) best[found.leaves[place]] = found.scores[place]
        val out = exclude.toHashSet()
        for ((row, score) in gained) {
            val leaf = part.leafOf(row)
            if (leaf < 0 || leaf in out) continue
            val total = score + own(leaf)
            best[leaf] = maxOf(total, best[leaf] ?: total)
        }
        val order = best.entries.sortedByDescending { it.value }
        return Found(IntArray(order.size) { order[it].key }, FloatArray(order.size) { order[it].value })
    }

    private fun wish(ask: Ask): Control {
        if (ask.control == null) return Control(part(ask.within), null, Float.NEGATIVE_INFINITY, 0.0)
        if (ask.within != null) {
            throw ConfigException("`within` and `control` are both given; give `within` to recommender.control")
        }
        if (ask.control.catalogue.table !== trie.table) {
            throw ConfigException("`control` is not of this catalogue; make it with recommender.control")
        }
        return ask.control
    }

    private fun part(within: ItemTrie?): ItemTrie {
        if (within != null && within.table !== trie.table) {
            throw ConfigException("`within` is not a part of this catalogue; make it with trie.filterIds")
        }
        return within ?: trie
    }

    companion object {
        /**
         * Opens a bundle, checks all of it, and loads its model.
         *
         * @throws BundleException if the bundle is damaged or its parts do not fit.
         */
        @JvmStatic
        @JvmOverloads
        fun load(folder: File, options: RecommenderOptions = RecommenderOptions()): Recommender {
            val bundle = Bundle.open(folder)
            val trie = bundle.loadTrie()
            val cold = if (options.coldItems) bundle.loadCold(trie.size) else null
            val engine = Engine(bundle, options.threads)
            try {
                bundle.checkUnchanged()
            } catch (error: PocketRecException) {
                engine.close()
                throw error
            }
            return Recommender(bundle, trie, engine, cold)
        }
    }
}

/** The arguments that every way to recommend takes. */
internal class Ask(
    val k: Int, val excludeSeen: Boolean, val within: ItemTrie?, val beam: Int?, val control: Control?,
)

private fun interface Search {
    fun find(part: ItemTrie, exclude: IntArray, width: Int, bias: FloatArray?): Found
}

private fun Found.keep(wanted: (Float) -> Boolean): Found {
    if (scores.all(wanted)) return this
    val kept = scores.indices.filter { wanted(scores[it]) }
    return Found(IntArray(kept.size) { leaves[kept[it]] }, FloatArray(kept.size) { scores[kept[it]] })
}
