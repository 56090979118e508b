package dev.pocketrec.demo.model

import dev.pocketrec.Recommender

/** Where the demo's recommenders come from. Each build flavour has its own. */
interface Models {
    /** What is on the device. Slow: files are checked and the model is read. */
    fun first(): Recommender

    /** A newer one, if there is any. May wait for the network. */
    fun newer(): Recommender?
}
