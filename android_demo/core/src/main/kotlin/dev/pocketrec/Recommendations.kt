package dev.pocketrec

/** An item with its score, a log-probability. */
data class Recommendation(val itemId: String, val score: Float, val title: String?)

/** What a call gives: the best first. [unknown]: ids of the history that the catalogue does not have, each once. */
class Recommendations(val items: List<Recommendation>, val unknown: List<String>) : List<Recommendation> by items {
    override fun equals(other: Any?) = items == other

    override fun hashCode() = items.hashCode()

    override fun toString() = items.toString()
}

/** By how much an item of the history changes a score. */
data class Driver(val itemId: String, val change: Float)

/** Why an item scores what it scores: what the score loses without each item of the history, oldest first. */
class Explanation(val itemId: String, val score: Float, val history: List<Driver>) {
    /** The history, what helped most first. */
    val drivers: List<Driver> get() = history.sortedByDescending { it.change }
}

/** How a model is run. [threads]: for one call; one is fastest for small models and spares the battery. */
class RecommenderOptions @JvmOverloads constructor(val threads: Int = 1, val coldItems: Boolean = true) {
    init {
        if (threads < 1) throw ConfigException("threads is $threads; it must be at least 1")
    }
}
