package dev.pocketrec

import kotlin.math.abs

private const val MAX_BIAS = 1e6

/** Filters, biases and diversity, checked and prepared by [Recommender.control] for any number of calls. */
class Control internal constructor(
    internal val catalogue: ItemTrie,
    internal val bias: FloatArray?, // by node of the catalogue, 0 at the root
    internal val minScore: Float,
    internal val diversity: Double,
)

internal fun prepare(
    whole: ItemTrie,
    within: ItemTrie,
    allow: Collection<String>?,
    deny: Collection<String>,
    bias: Map<String, Double>?,
    segments: Map<String, String>?,
    minScore: Double?,
    diversity: Double,
): Control {
    if (diversity.isNaN() || diversity !in 0.0..1.0) {
        throw ConfigException("diversity is $diversity; give a number from 0 to 1")
    }
    if (minScore != null && minScore.isNaN()) throw ConfigException("minScore is NaN; give a number or null")
    val kept = within.mask(deny, false)
    if (allow != null) within.mask(allow, true).forEachIndexed { leaf, allowed -> kept[leaf] = kept[leaf] && allowed }
    val catalogue = if (kept.all { it }) within else within.filter(kept)
    val nodes = bias?.let { nodeBias(catalogue, itemBias(whole, it, segments)) }
    return Control(catalogue, nodes, minScore?.toFloat() ?: Float.NEGATIVE_INFINITY, diversity)
}

/** Bias by table row. `bias` is by item id, or by segment if segments are given; unknown ids are ignored. */
private fun itemBias(whole: ItemTrie, bias: Map<String, Double>, segments: Map<String, String>?): Map<Int, Float> {
    for ((name, value) in bias) {
        if (!(abs(value) <= MAX_BIAS)) {
            throw ConfigException("the bias of ${quote(name)} is $value; give a number of at most ±1e+06")
        }
    }
    val ofItem = when (segments) {
        null -> bias
        else -> segments.filterValues { it in bias }.mapValues { bias.getValue(it.value) }
    }
    val out = HashMap<Int, Float>()
    for ((id, value) in ofItem) {
        val row = whole.table.find(id)
        if (row >= 0) out[row] = value.toFloat()
    }
    return out
}

/** The largest bias below every node, 0 at the root: a step to a child adds the child's number minus the node's. */
private fun nodeBias(trie: ItemTrie, ofRow: Map<Int, Float>): FloatArray {
    val nodes = trie.nodes
    val out = FloatArray(nodes.count)
    for ((row, value) in ofRow) {
        val leaf = trie.leafOf(row)
        if (leaf >= 0) out[nodes.internal + leaf] = value
    }
    for (node in nodes.internal - 1 downTo 1) {
        var largest = Float.NEGATIVE_INFINITY
        for (child in nodes.firstChild.get(node) until nodes.firstChild.get(node + 1)) {
            largest = maxOf(largest, out[child])
        }
        out[node] = largest
    }
    if (nodes.count > 0) out[0] = 0f
    return out
}

/** Chooses k by maximal marginal relevance (Carbonell & Goldstein 1998) over semantic IDs; indices in order. */
internal fun diverse(found: Found, trie: ItemTrie, k: Int, diversity: Double): List<Int> {
    val n = found.size
    if (n == 0) return emptyList()
    val span = found.scores[0] - found.scores[n - 1]
    val value = DoubleArray(n) {
        (1 - diversity) * (if (span > 0) ((found.scores[it] - found.scores[n - 1]) / span).toDouble() else 1.0)
    }
    val nearest = DoubleArray(n)
    val chosen = ArrayList<Int>()
    while (chosen.size < minOf(k, n)) {
        var best = -1
        for (i in 0 until n) {
            if (i in chosen) continue
            if (best < 0 || value[i] - diversity * nearest[i] > value[best] - diversity * nearest[best]) best = i
        }
        chosen.add(best)
        for (i in 0 until n) nearest[i] = maxOf(nearest[i], similarity(trie, found.leaves[i], found.leaves[best]))
    }
    return chosen
}

/** The share of levels that two semantic IDs have in common, from the first on. */
private fun similarity(trie: ItemTrie, a: Int, b: Int): Double {
    var same = 0
    while (same < trie.levels && trie.code(a, same) == trie.code(b, same)) same++
    return same.toDouble() / trie.levels
}
