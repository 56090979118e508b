package dev.pocketrec.sync

import java.io.File
import java.io.FileInputStream
import java.io.InputStream
import java.security.MessageDigest

private const val PIECE_BYTES = 1 shl 16

internal fun sha256(bytes: ByteArray): ByteArray = MessageDigest.getInstance("SHA-256").digest(bytes)

internal fun sha256Hex(bytes: ByteArray): String = hex(sha256(bytes))

internal fun sha256Hex(file: File): String =
    FileInputStream(file).use { input ->
        val digest = MessageDigest.getInstance("SHA-256")
        input.forEachPiece { piece, size -> digest.update(piece, 0, size) }
        hex(digest.digest())
    }

/** Whether a file has a length and a hash. */
internal fun File.matches(length: Long, sha256: String): Boolean =
    isFile && length() == length && sha256Hex(this) == sha256

internal inline fun InputStream.forEachPiece(take: (ByteArray, Int) -> Unit) {
    val piece = ByteArray(PIECE_BYTES)
    while (true) {
        val size = read(piece)
        if (size < 0) return
        take(piece, size)
    }
}

internal fun hex(bytes: ByteArray): String {
    val digits = StringBuilder(2 * bytes.size)
    for (byte in bytes) digits.append(HEX[byte.toInt() shr 4 and 15]).append(HEX[byte.toInt() and 15])
    return digits.toString()
}

private const val HEX = "0123456789abcdef"
