package dev.pocketrec.demo.model

import java.io.File
import java.io.FileOutputStream
import java.io.IOException

/** The bytes of a session on disk: the old ones or the new ones, never a part of either. */
class SavedSession(private val file: File) {
    /** What was saved last; null where nothing was. */
    fun read(): ByteArray? = if (file.exists()) file.readBytes() else null

    fun write(bytes: ByteArray) {
        val fresh = File(file.path + ".new")
        FileOutputStream(fresh).use {
            it.write(bytes)
            it.fd.sync()
        }
        if (!fresh.renameTo(file)) throw IOException("the history could not be saved; is the storage full?")
    }
}
