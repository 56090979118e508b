package dev.pocketrec.demo.model

import dev.pocketrec.Item

/** Everything that the activity shows. Every change makes a new one, so that it can be drawn at any time. */
data class Screen(
    val query: String = "",
    val onlyMatches: Boolean = false,
    /** The items that match [query]; all items if it is empty. */
    val catalogue: List<Item> = emptyList(),
    /** Oldest first. */
    val history: List<Item> = emptyList(),
    /** Best first. */
    val picks: List<Pick> = emptyList(),
    /** Null until the model is open. */
    val model: ModelFacts? = null,
    /** How long the recommendations took. */
    val nanoseconds: Long = 0,
    /** A sentence for the user if something failed. */
    val problem: String? = null,
)

/** A recommendation as shown. */
data class Pick(
    val item: Item,
    val score: Float,
    /** Name of the history item that raised its score most; null if none did, or until this is computed. */
    val because: String? = null,
)

/** @property modelAlone whether the bundle has parts (crowd, words) that the library does not use yet */
data class ModelFacts(val bytes: Long, val items: Int, val modelAlone: Boolean = false)

/** The name of an item for people. */
val Item.name: String get() = title ?: itemId
