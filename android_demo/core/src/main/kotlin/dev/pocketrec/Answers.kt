package dev.pocketrec

private const val ROUNDING = 1e-3f // what a log-probability may be above 0
private const val BIAS_ROUNDING = 1.0f // and above its bias, of up to a million in float32
private const val AGAIN = "export the bundle again"

/** Leaf rows and scores, best first. */
internal class Found(val leaves: IntArray, val scores: FloatArray) {
    val size get() = leaves.size

    companion object {
        val NOTHING = Found(IntArray(0), FloatArray(0))

        /** A graph's answer without its empty slots, refused if it is none that a sound graph could give. */
        fun sound(rows: IntArray, scores: FloatArray, items: Int, exclude: Set<Int>, largest: ((Int) -> Float)?): Found {
            if (rows.size != scores.size) {
                throw BundleException(
                    "the bundle's graph answers int32 [${rows.size}] and float32 [${scores.size}], where int32 and " +
                        "float32 of one length are needed; $AGAIN",
                )
            }
            val real = rows.indices.filter { scores[it] > Float.NEGATIVE_INFINITY } // false for NaN
            val seen = HashSet<Int>()
            for (i in real) {
                if (rows[i] !in 0 until items) {
                    throw BundleException("the bundle's graph names items that do not exist; $AGAIN")
                }
            }
            for ((place, i) in real.withIndex()) {
                if (rows[i] in exclude || !seen.add(rows[i])) {
                    throw BundleException("the bundle's graph names an item twice, or one that was excluded; $AGAIN")
                }
                if (place > 0 && scores[i] > scores[real[place - 1]]) {
                    throw BundleException("the bundle's graph names a worse item before a better one; $AGAIN")
                }
                val limit = if (largest == null) ROUNDING else largest(rows[i]) + BIAS_ROUNDING
                if (scores[i] > limit) {
                    throw BundleException("the bundle's graph gives a score of ${scores[i]}, which none is; $AGAIN")
                }
            }
            return Found(IntArray(real.size) { rows[real[it]] }, FloatArray(real.size) { scores[real[it]] })
        }
    }
}
