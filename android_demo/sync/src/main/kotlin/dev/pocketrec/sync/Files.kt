package dev.pocketrec.sync

import java.io.File
import java.io.FileInputStream
import java.io.FileOutputStream
import java.io.IOException
import java.io.RandomAccessFile
import java.security.SecureRandom

private val random = SecureRandom()

internal fun randomHex(bytes: Int): String = hex(ByteArray(bytes).also(random::nextBytes))

/** Write the whole new content of a file: a reader sees the old one or the new one, never half of either. */
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
    FileInputStream(from).use { input ->
        FileOutputStream(to).use { output -> input.forEachPiece { piece, size -> output.write(piece, 0, size) } }
    }
}

internal fun makeFolder(folder: File) {
    if (folder.isDirectory || folder.mkdirs() || folder.isDirectory) return // by another process meanwhile
    throw IOException("${folder.name} cannot be made")
}

/** Names in a folder; none if there is no such folder. */
internal fun File.names(): List<String> = list()?.toList().orEmpty()
