package dev.pocketrec

/** An item with its score, a log-probability. */
data class Recommendation(val itemId: String, val score: Float, val title: String?)

/** Recommended items, best first, and the [unknown] ids of the history: those that the catalogue lacks, each once. */
class Recommendations(val items: List<Recommendation>, val unknown: List<String>) : List<Recommendation> by items {
    override fun equals(other: Any?) = items == other

    override fun hashCode() = items.hashCode()

    override fun toString() = items.toString()
}

/** An item of the history, and how much it changes a score. */
data class Driver(val itemId: String, val change: Float)

/** For each item of the history, oldest first, how much it changes a score: the score minus the score without it. */
class Explanation(val itemId: String, val score: Float, val history: List<Driver>) {
    /** The history, the item that raised the score most first. */
    val drivers: List<Driver> get() = history.sortedByDescending { it.change }
}

/**
 * How a model is run.
 *
 * @property threads for one call; one is fastest for small models and saves the battery
 * @property coldItems let items that the model has never seen score by their similar items
 */
class RecommenderOptions @JvmOverloads constructor(val threads: Int = 1, val coldItems: Boolean = true) {
    init {
        if (threads < 1) throw ConfigException("threads is $threads; it must be at least 1")
    }
}
