package dev.pocketrec

private const val ROUNDING = 1e-3f // what a log-probability may be above 0
private const val BIAS_ROUNDING = 1.0f // and above its bias, of up to a million in float32
private const val AGAIN = "export the bundle again"

/** Leaf rows and scores, best first. */
internal class Found(val leaves: IntArray, val scores: FloatArray) {
    val size get() = leaves.size

    companion object {
        val NOTHING = Found(IntArray(0), FloatArray(0))

        /** Refuses an answer that is not two lists of one length. */
        fun checkShapes(rows: LongArray, scores: LongArray) {
            if (rows.size != 1 || !rows.contentEquals(scores)) {
                throw BundleException(
                    "the bundle's graph answers int32 ${rows.toList()} and float32 ${scores.toList()}, where int32 " +
                        "and float32 of one length are needed; $AGAIN",
                )
            }
        }

        /**
         * A graph's answer without its empty slots (scores of -inf or NaN), refused if it is none that a sound graph
         * could give.
         *
         * @param items leaves of the trie that was searched; [exclude]: those that may not be among the rows, rising.
         * @param largest what the score of a leaf may be; null: 0.
         */
        fun sound(
            rows: IntArray, scores: FloatArray, items: Int, exclude: IntArray, largest: ((Int) -> Float)?,
        ): Found {
            val real = scores.indices.filter { scores[it] > Float.NEGATIVE_INFINITY } // false for NaN
            val leaves = IntArray(real.size) { rows[real[it]] }
            val kept = FloatArray(real.size) { scores[real[it]] }
            if (leaves.any { it !in 0 until items }) {
                throw BundleException("the bundle's graph names items that do not exist; $AGAIN")
            }
            val seen = HashSet<Int>()
            if (leaves.any { exclude.binarySearch(it) >= 0 || !seen.add(it) }) {
                throw BundleException("the bundle's graph names an item twice, or one that was excluded; $AGAIN")
            }
            if ((1 until kept.size).any { kept[it] > kept[it - 1] }) {
                throw BundleException("the bundle's graph names a worse item before a better one; $AGAIN")
            }
            for (place in kept.indices) {
                val limit = if (largest == null) ROUNDING else largest(leaves[place]) + BIAS_ROUNDING
                if (kept[place] > limit) {
                    throw BundleException("the bundle's graph gives a score of ${kept[place]}, which none is; $AGAIN")
                }
            }
            return Found(leaves, kept)
        }
    }
}
