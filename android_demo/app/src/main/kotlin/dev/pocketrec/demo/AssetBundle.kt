package dev.pocketrec.demo

import android.content.Context
import dev.pocketrec.demo.model.FirstBundle
import java.io.File

/** The bundle in `assets/bundle`. Its copy is not backed up, since the app can always unpack it again. */
fun firstBundle(context: Context) = FirstBundle(
    home = File(context.noBackupFilesDir, "bundle"),
    names = context.assets.list("bundle").orEmpty().toList(),
    open = { context.assets.open("bundle/$it") },
)
