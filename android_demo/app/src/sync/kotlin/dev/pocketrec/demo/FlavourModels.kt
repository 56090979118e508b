package dev.pocketrec.demo

import android.content.Context
import dev.pocketrec.Recommender
import dev.pocketrec.demo.model.Models
import dev.pocketrec.sync.SyncClient
import dev.pocketrec.sync.SyncException
import java.io.File

/**
 * The newest release in the store, or the model that came with the app where there is none yet.
 *
 * The client only keeps the store: the presenter opens and closes models on its own thread. An app without such a thread
 * lets `client.recommender()` follow the store instead.
 */
class FlavourModels(private val context: Context) : Models {
    private val store = File(context.noBackupFilesDir, "store")
    private val client = SyncClient(trustedTargets(context), store)

    override fun first(): Recommender = installed() ?: Recommender.load(firstBundle(context).folder())

    override fun newer(): Recommender? =
        try {
            if (client.refresh().changed) installed() else null
        } catch (_: SyncException) { // offline, or not to be believed: what is here goes on
            null
        }

    private fun installed(): Recommender? =
        client.status().current?.let { Recommender.load(File(store, "versions/$it")) }
}
