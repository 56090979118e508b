package dev.pocketrec.demo

import android.content.Context
import dev.pocketrec.Recommender
import dev.pocketrec.demo.model.Models
import dev.pocketrec.sync.SyncClient
import dev.pocketrec.sync.SyncException
import java.io.File

/**
 * The newest release in the store, or the model that came with the app if the store is empty.
 *
 * The client only updates the store: the presenter opens and closes models on its own thread. An app without such a
 * thread uses `client.recommender()`, which follows the store.
 */
class FlavourModels(private val context: Context) : Models {
    private val store = File(context.noBackupFilesDir, "store")
    private val client = SyncClient(trustedTargets(context), store)

    override fun first(): Recommender = installed() ?: Recommender.load(firstBundle(context).folder())

    override fun newer(): Recommender? =
        try {
            if (client.refresh().changed) installed() else null
        } catch (_: SyncException) { // offline, or the repository is not trusted: the current model stays in use
            null
        }

    private fun installed(): Recommender? =
        client.status().current?.let { Recommender.load(File(store, "versions/$it")) }
}
