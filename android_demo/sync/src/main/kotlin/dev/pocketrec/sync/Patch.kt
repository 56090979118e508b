package dev.pocketrec.sync

import com.github.luben.zstd.Zstd
import com.github.luben.zstd.ZstdDecompressCtx
import com.github.luben.zstd.ZstdException

/*
 * Applying patches: zstd frames that refer to the file on the device, unpacked within the signed length. Their result
 * is checked against the signed hash by the caller, so a patch needs no trust of its own.
 */

private const val MIN_WINDOW_LOG = 17
private const val MIN_FRAME_BYTES = 6 // magic number, descriptor and one byte of a window or a size
private const val MAX_WINDOW_LOG = 28 // base and result together; beyond, memory is better spared

/** Logarithm of the window that reaches back over so many bytes. */
internal fun windowLog(size: Long): Int {
    val needed = maxOf(MIN_WINDOW_LOG, 64 - java.lang.Long.numberOfLeadingZeros(maxOf(size - 1, 1)))
    if (needed > MAX_WINDOW_LOG) throw SyncException("$size bytes are too many for a patch; send the whole file")
    return needed
}

/**
 * What a patch makes out of [base].
 *
 * @param length bytes that it must make; memory is bounded by it
 * @throws SyncException if the frame is damaged, or promises or makes another length
 */
internal fun applyPatch(base: ByteArray, patch: ByteArray, length: Long): ByteArray {
    val most = 1L shl windowLog(base.size + length)
    if (patch.size < MIN_FRAME_BYTES) throw SyncException("the patch has ${patch.size} bytes, which is too few")
    val promised = Zstd.getFrameContentSize(patch)
    if (promised != length || windowSize(patch, promised) > most) {
        throw SyncException("the patch makes $promised bytes, not $length, or needs too large a window")
    }
    val made = try {
        ZstdDecompressCtx().use { it.loadDict(base).decompress(patch, length.toInt()) }
    } catch (error: ZstdException) {
        throw SyncException("the patch is damaged (${error.message})", error)
    }
    if (made.size.toLong() != length) throw SyncException("the patch made ${made.size} bytes, not $length")
    return made
}

/** The window that a frame's header asks for (RFC 8878, 3.1.1.1): of the whole content in a single segment. */
private fun windowSize(frame: ByteArray, content: Long): Long {
    val isSingleSegment = frame[4].toInt() and 0x20 != 0
    if (isSingleSegment) return content
    val descriptor = frame[5].toInt() and 0xff
    val base = 1L shl (10 + (descriptor shr 3))
    return base + (base / 8) * (descriptor and 7)
}
