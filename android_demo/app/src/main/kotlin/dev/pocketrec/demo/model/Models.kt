package dev.pocketrec.demo.model

import dev.pocketrec.Recommender

/** The source of the demo's recommenders. Each build flavour has its own. */
interface Models {
    /** The model on the device. Slow: files are checked and the model is loaded. */
    fun first(): Recommender

    /** A newer model; null if there is none. May wait for the network. */
    fun newer(): Recommender?
}
