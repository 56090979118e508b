package dev.pocketrec.demo

import android.content.Context
import dev.pocketrec.Recommender
import dev.pocketrec.demo.model.Models

/** The model that came with the app, and no other: this flavour has no network permission. */
class FlavourModels(private val context: Context) : Models {
    override fun first(): Recommender = Recommender.load(firstBundle(context).folder())

    override fun newer(): Recommender? = null
}
