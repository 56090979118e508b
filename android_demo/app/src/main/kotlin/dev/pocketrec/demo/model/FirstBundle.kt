package dev.pocketrec.demo.model

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/**
 * Unpacks the bundle that comes inside the app, because a model is read from files.
 *
 * The folder's name is the hash of the manifest, which has the hashes of all files. So an app update with another bundle
 * gets another folder, and an update with the same bundle copies nothing. The folder gets its name by one rename, when it
 * is complete.
 *
 * @param home parent folder of the copies; exclude it from backups
 * @param names the names of the bundle's files inside the app
 * @param open opens one of these files
 */
class FirstBundle(private val home: File, private val names: List<String>, private val open: (String) -> InputStream) {
    /** The bundle's folder; on the first start with this bundle, its files are copied first. */
    fun folder(): File {
        if (MANIFEST !in names) {
            throw IOException("the app was built without a bundle; run app/bundle.sh and build it again")
        }
        val folder = File(home, open(MANIFEST).use { sha256(it.readBytes()) })
        if (!folder.exists()) copyTo(folder)
        home.listFiles().orEmpty().filter { it != folder }.forEach { it.deleteRecursively() }
        return folder
    }

    private fun copyTo(folder: File) {
        val partial = File(home, folder.name + ".partial")
        partial.deleteRecursively()
        if (!partial.mkdirs()) throw IOException("the model could not be unpacked; is the storage full?")
        for (name in names) {
            FileOutputStream(File(partial, name)).use { file ->
                open(name).use { it.copyTo(file) }
                file.fd.sync()
            }
        }
        if (!partial.renameTo(folder)) throw IOException("the model could not be unpacked; is the storage full?")
    }

    private companion object {
        const val MANIFEST = "manifest.json"

        fun sha256(bytes: ByteArray) =
            MessageDigest.getInstance("SHA-256").digest(bytes).joinToString("") { "%02x".format(it) }
    }
}
