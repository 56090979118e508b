package dev.pocketrec.sync

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.util.Random

/**
 * Limits of downloads.
 *
 * @property attempts attempts for one file, in one refresh
 * @property pauseMillis pause before the second attempt; doubled for each further one, and varied by up to half
 * @property deadlineMillis time for one file, so that no server can hold up the device for ever
 */
data class Limits @JvmOverloads constructor(
    val attempts: Int = 4,
    val pauseMillis: Long = 500,
    val deadlineMillis: Long = 900_000,
)

/**
 * Downloads files, with limits on bytes, time and attempts. A partial file is named by its signed hash; a later attempt
 * resumes it, and deletes it if the complete file has another hash.
 */
internal class Downloads(private val folder: File, private val fetcher: Fetcher, private val limits: Limits) {
    private val random = Random()
    var requests = 0
        private set
    var received = 0L
        private set

    /** Downloads a file and verifies its length and hash. `progress` gets the bytes so far. */
    fun download(target: TargetInfo, progress: (Long) -> Unit): File {
        val part = File(folder, "${target.sha256}.part")
        val isResumed = part.exists()
        try {
            attempts(target, part, progress)
        } catch (error: TrustException) {
            if (!isResumed) throw error
            attempts(target, part, progress) // the bytes of an earlier attempt may have been wrong
        }
        return part
    }

    private fun attempts(target: TargetInfo, part: File, progress: (Long) -> Unit) {
        val end = System.nanoTime() + limits.deadlineMillis * 1_000_000
        for (attempt in 0 until limits.attempts) {
            try {
                return attempt(target, part, end, progress)
            } catch (error: NotFoundException) {
                throw error
            } catch (error: NetworkException) {
                val pause = (limits.pauseMillis * (1L shl minOf(attempt, 30)) * (0.5 + random.nextDouble())).toLong()
                if (attempt + 1 == limits.attempts || System.nanoTime() + pause * 1_000_000 > end) throw error
                sleep(pause)
            }
        }
        throw NetworkException("attempts is ${limits.attempts}; allow at least one")
    }

    private fun sleep(millis: Long) =
        try {
            Thread.sleep(millis)
        } catch (error: InterruptedException) {
            Thread.currentThread().interrupt()
            throw NetworkException("the refresh was interrupted", error)
        }

    private fun attempt(target: TargetInfo, part: File, end: Long, progress: (Long) -> Unit) {
        try {
            receive(target, part, end, progress)
            if (!part.matches(target.length, target.sha256)) {
                throw TrustException("${target.path} is not the signed file (its SHA-256 differs)")
            }
        } catch (error: TrustException) {
            part.delete()
            throw error
        }
    }

    private fun receive(target: TargetInfo, part: File, end: Long, progress: (Long) -> Unit) {
        if (part.length() > target.length) part.delete()
        val have = part.length()
        if (part.exists() && have == target.length) return
        request(target, have).use { response ->
            val isResumed = have > 0 && response.status == 206 && response.begin == have
            if (response.status != 200 && !isResumed) throw refusal(target, response.status)
            val got = append(target, part, isResumed, response, end, progress)
            if (got < target.length) {
                throw NetworkException("${target.path} ended after $got of ${target.length} bytes")
            }
        }
    }

    private fun refusal(target: TargetInfo, status: Int): NetworkException =
        if (status in GONE) {
            NotFoundException("the server has no ${target.path} (HTTP $status)")
        } else {
            NetworkException("the server refused ${target.path} with HTTP $status")
        }

    private fun request(target: TargetInfo, begin: Long): Response {
        requests++
        return onNetwork(target) { fetcher.fetch(target.url, begin) }
    }

    /** Writes a response to the part. A server without ranges sends the whole file, and the part begins again. */
    private fun append(
        target: TargetInfo,
        part: File,
        isResumed: Boolean,
        response: Response,
        end: Long,
        progress: (Long) -> Unit,
    ): Long {
        var have = if (isResumed) part.length() else 0
        FileOutputStream(part, isResumed).use { file ->
            val buffer = ByteArray(BUFFER_BYTES)
            while (true) {
                val size = onNetwork(target) { response.bytes.read(buffer) }
                if (size < 0) return have
                received += size
                have += size
                if (have > target.length) {
                    throw TrustException("${target.path} is longer than its signed length of ${target.length} bytes")
                }
                if (System.nanoTime() > end) {
                    throw NetworkException("${target.path} took longer than ${limits.deadlineMillis / 1000} seconds")
                }
                file.write(buffer, 0, size)
                progress(have)
            }
        }
    }

    /** Tells network failures from disk failures; both are IOExceptions. */
    private inline fun <T> onNetwork(target: TargetInfo, work: () -> T): T =
        try {
            work()
        } catch (error: IOException) {
            throw NetworkException("the network failed at ${target.path} (${error.message})", error)
        }

    private companion object {
        const val BUFFER_BYTES = 1 shl 16
        val GONE = setOf(403, 404, 410)
    }
}
