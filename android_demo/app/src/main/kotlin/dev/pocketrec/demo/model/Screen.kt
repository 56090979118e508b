package dev.pocketrec.demo.model

import dev.pocketrec.Item

/** All that the activity shows. A new one is made for every change, so that it can be drawn at any moment. */
data class Screen(
    val query: String = "",
    val onlyMatches: Boolean = false,
    /** What of the catalogue has the words of [query]; everything where there are none. */
    val catalogue: List<Item> = emptyList(),
    /** Oldest first. */
    val history: List<Item> = emptyList(),
    /** Best first. */
    val picks: List<Pick> = emptyList(),
    /** Null until the model is open. */
    val model: ModelFacts? = null,
    /** How long the recommendations took. */
    val nanoseconds: Long = 0,
    /** A sentence for the user, where something failed. */
    val problem: String? = null,
)

/** A recommendation as shown. */
data class Pick(
    val item: Item,
    val score: Float,
    /** What of the history helped it most; null until that was asked of the model, or where nothing helped. */
    val because: String? = null,
)

data class ModelFacts(val bytes: Long, val items: Int)

/** The name of an item for people. */
val Item.name: String get() = title ?: itemId
