package dev.pocketrec.sync

import dev.pocketrec.internal.hex
import dev.pocketrec.internal.sha256Hex
import java.io.File
import java.io.FileInputStream
import java.io.FileOutputStream
import java.io.IOException
import java.io.RandomAccessFile
import java.security.SecureRandom

private val random = SecureRandom()

internal fun randomHex(bytes: Int): String = hex(ByteArray(bytes).also(random::nextBytes))

/** Replaces a file's content atomically: a reader sees either the old content or the new one. */
internal fun atomicWrite(file: File, content: ByteArray) {
    val temporary = File(file.parentFile, ".${file.name}.${randomHex(8)}.tmp")
    try {
        FileOutputStream(temporary).use {
            it.write(content)
            it.fd.sync()
        }
        rename(temporary, file)
    } catch (error: IOException) {
        temporary.delete()
        throw error
    }
}

internal fun rename(from: File, to: File) {
    if (!from.renameTo(to)) throw IOException("${from.name} cannot be renamed to ${to.name}")
}

internal fun syncToDisk(file: File) = RandomAccessFile(file, "rw").use { it.fd.sync() }

internal fun copy(from: File, to: File) {
    FileInputStream(from).use { input -> FileOutputStream(to).use { output -> input.copyTo(output) } }
}

/** Whether a file has this length and this hash. */
internal fun File.matches(length: Long, sha256: String): Boolean =
    isFile && length() == length && sha256Hex(this) == sha256

internal fun makeFolder(folder: File) {
    if (folder.isDirectory || folder.mkdirs() || folder.isDirectory) return // another process may have made it
    throw IOException("${folder.name} cannot be created")
}

/** The names in a folder; empty if there is no such folder. */
internal fun File.names(): List<String> = list()?.toList().orEmpty()
