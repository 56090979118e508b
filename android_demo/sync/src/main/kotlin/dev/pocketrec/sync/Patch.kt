package dev.pocketrec.sync

import com.github.luben.zstd.Zstd
import com.github.luben.zstd.ZstdDecompressCtx
import com.github.luben.zstd.ZstdException

/*
 * Patches are zstd frames that refer to a file on the device. They are decompressed up to the signed length. The caller
 * checks the result against the signed hash, so a patch need not be trusted.
 */

private const val MIN_WINDOW_LOG = 17
private const val MIN_FRAME_BYTES = 6 // magic number, descriptor, and one byte of a window or a size
private const val MAX_WINDOW_LOG = 28 // for base and result together; a limit on memory

/** The base-2 logarithm of a window of at least `size` bytes. */
internal fun windowLog(size: Long): Int {
    val needed = maxOf(MIN_WINDOW_LOG, 64 - java.lang.Long.numberOfLeadingZeros(maxOf(size - 1, 1)))
    if (needed > MAX_WINDOW_LOG) throw SyncException("$size bytes are too many for a patch; fetch the whole file")
    return needed
}

/**
 * Applies a patch to [base].
 *
 * @param length signed length of the result, which limits memory
 * @throws SyncException if the frame is damaged, or its result has another length
 */
internal fun applyPatch(base: ByteArray, patch: ByteArray, length: Long): ByteArray {
    val limit = 1L shl windowLog(base.size + length)
    if (patch.size < MIN_FRAME_BYTES) throw SyncException("the patch is too short (${patch.size} bytes)")
    val declared = Zstd.getFrameContentSize(patch)
    if (declared != length || windowSize(patch, declared) > limit) {
        throw SyncException("the patch makes $declared bytes instead of $length, or needs too large a window")
    }
    val result = try {
        ZstdDecompressCtx().use { it.loadDict(base).decompress(patch, length.toInt()) }
    } catch (error: ZstdException) {
        throw SyncException("the patch is damaged (${error.message})", error)
    }
    if (result.size.toLong() != length) {
        throw SyncException("the patch made ${result.size} bytes instead of $length")
    }
    return result
}

/** The window size in a frame's header (RFC 8878, 3.1.1.1); for a single segment, the size of its content. */
private fun windowSize(frame: ByteArray, content: Long): Long {
    val isSingleSegment = frame[4].toInt() and 0x20 != 0
    if (isSingleSegment) return content
    val descriptor = frame[5].toInt() and 0xff
    val base = 1L shl (10 + (descriptor shr 3))
    return base + (base / 8) * (descriptor and 7)
}
