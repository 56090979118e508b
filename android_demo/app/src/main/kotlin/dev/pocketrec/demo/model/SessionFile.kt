package dev.pocketrec.demo.model

import java.io.File
import java.io.FileOutputStream
import java.io.IOException

/** A saved session on disk. It is replaced atomically: after a crash, the file has either the old or the new bytes. */
class SessionFile(private val file: File) {
    /** The bytes that were saved last; null if there are none. */
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
