package dev.pocketrec

private const val ROUNDING = 1e-3f // how far rounding may lift a log-probability above 0
private const val BIAS_ROUNDING = 1.0f // the same above the item's bias, which may be up to 1e6 in float32
private const val EXPORT_AGAIN = "export the bundle again"

/** Leaf rows and scores, best first. */
internal class Found(val leaves: IntArray, val scores: FloatArray) {
    val size get() = leaves.size

    /** The leaves whose scores pass a test. */
    fun filter(isKept: (Float) -> Boolean): Found {
        if (scores.all(isKept)) return this
        val kept = scores.indices.filter { isKept(scores[it]) }
        return Found(IntArray(kept.size) { leaves[kept[it]] }, FloatArray(kept.size) { scores[kept[it]] })
    }

    companion object {
        val NOTHING = Found(IntArray(0), FloatArray(0))

        /** Refuses the output of a search graph if it is not two lists of one length. */
        fun checkShapes(rows: LongArray, scores: LongArray) {
            if (rows.size != 1 || !rows.contentEquals(scores)) {
                throw BundleException(
                    "the bundle's graph returns int32 ${rows.toList()} and float32 ${scores.toList()}, where int32 " +
                        "and float32 of one length are needed; $EXPORT_AGAIN",
                )
            }
        }

        /**
         * The output of a search graph without its empty slots (scores of -inf or NaN); refused if it is invalid, since
         * a graph comes from outside.
         *
         * @param items number of leaves in the trie that was searched
         * @param excluded leaf rows that must not come back, ascending
         * @param limit the largest valid score of a leaf; null: 0 for all
         */
        fun validated(
            rows: IntArray, scores: FloatArray, items: Int, excluded: IntArray, limit: ((Int) -> Float)?,
        ): Found {
            val real = scores.indices.filter { scores[it] > Float.NEGATIVE_INFINITY } // false for NaN
            val leaves = IntArray(real.size) { rows[real[it]] }
            val kept = FloatArray(real.size) { scores[real[it]] }
            if (leaves.any { it !in 0 until items }) {
                throw BundleException("the bundle's graph names items that do not exist; $EXPORT_AGAIN")
            }
            val distinct = HashSet<Int>()
            if (leaves.any { excluded.binarySearch(it) >= 0 || !distinct.add(it) }) {
                throw BundleException("the bundle's graph names an item twice, or one that was excluded; $EXPORT_AGAIN")
            }
            if ((1 until kept.size).any { kept[it] > kept[it - 1] }) {
                throw BundleException("the bundle's graph names a worse item before a better one; $EXPORT_AGAIN")
            }
            for (place in kept.indices) {
                val highest = if (limit == null) ROUNDING else limit(leaves[place]) + BIAS_ROUNDING
                if (kept[place] > highest) {
                    throw BundleException(
                        "the bundle's graph gives a score of ${kept[place]}, but a log-probability is at most 0; " +
                            EXPORT_AGAIN,
                    )
                }
            }
            return Found(leaves, kept)
        }
    }
}
