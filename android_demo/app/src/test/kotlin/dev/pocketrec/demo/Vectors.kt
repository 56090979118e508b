package dev.pocketrec.demo

import dev.pocketrec.Recommender
import java.io.File

/** The small bundles that every runtime is tested with: 60 items, "item-0" to "item-59", called "Title 0" and so on. */
object Vectors {
    private val folder = File(System.getProperty("pocketrec.vectors", "../../tests/vectors"), "bundles")

    fun bundle(name: String = "plain") = File(folder, name)

    fun recommender(name: String = "plain"): Recommender = Recommender.load(bundle(name))
}
