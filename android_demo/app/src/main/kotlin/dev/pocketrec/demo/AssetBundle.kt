package dev.pocketrec.demo

import android.content.Context
import dev.pocketrec.demo.model.FirstBundle
import java.io.File

/** The bundle of `assets/bundle`. Its copy stays out of backups: the app can always make it again. */
fun firstBundle(context: Context) = FirstBundle(
    home = File(context.noBackupFilesDir, "bundle"),
    names = context.assets.list("bundle").orEmpty().toList(),
    open = { context.assets.open("bundle/$it") },
)
