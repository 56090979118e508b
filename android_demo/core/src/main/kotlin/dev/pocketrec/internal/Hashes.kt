package dev.pocketrec.internal

import java.io.File
import java.io.FileInputStream
import java.io.IOException
import java.security.MessageDigest

private const val HEX = "0123456789abcdef"
private const val BUFFER_BYTES = 1 shl 16
private val SHA256 = Regex("[0-9a-f]{64}")

/** The SHA-256 of some bytes: 32 bytes. */
@PocketRecInternal
fun sha256(bytes: ByteArray): ByteArray = MessageDigest.getInstance("SHA-256").digest(bytes)

/** The SHA-256 of some bytes: 64 lower-case hex digits. */
@PocketRecInternal
fun sha256Hex(bytes: ByteArray): String = hex(sha256(bytes))

/**
 * The SHA-256 of the first [limit] bytes of a file, as hex.
 *
 * @throws IOException if the file cannot be read.
 */
@PocketRecInternal
fun sha256Hex(file: File, limit: Long = Long.MAX_VALUE): String = FileInputStream(file).use { input ->
    val digest = MessageDigest.getInstance("SHA-256")
    val buffer = ByteArray(BUFFER_BYTES)
    var left = limit
    while (left > 0) {
        val count = input.read(buffer, 0, minOf(buffer.size.toLong(), left).toInt())
        if (count < 0) break
        digest.update(buffer, 0, count)
        left -= count
    }
    hex(digest.digest())
}

/** Whether a text has the form of a SHA-256 in hex. */
@PocketRecInternal
fun isSha256(text: String): Boolean = SHA256.matches(text)

/** Bytes as lower-case hex digits. */
@PocketRecInternal
fun hex(bytes: ByteArray): String {
    val digits = StringBuilder(2 * bytes.size)
    for (byte in bytes) digits.append(HEX[byte.toInt() shr 4 and 15]).append(HEX[byte.toInt() and 15])
    return digits.toString()
}
