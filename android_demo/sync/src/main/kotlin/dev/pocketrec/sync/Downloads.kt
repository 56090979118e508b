package dev.pocketrec.sync

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.util.Random

/**
 * How long to try.
 *
 * @property attempts at one file in a row
 * @property pauseMillis before the second attempt, doubled for each further one and varied by half
 * @property deadlineMillis for one file in all, so that no server holds the device for ever
 */
data class Limits @JvmOverloads constructor(
    val attempts: Int = 4,
    val pauseMillis: Long = 500,
    val deadlineMillis: Long = 900_000,
)

/**
 * Fetching: bounded in bytes, time and attempts. A file on its way lies in a part that is named by its signed hash:
 * what an earlier attempt fetched is gone on with, and thrown away if the whole turns out to be something else.
 */
internal class Downloads(private val folder: File, private val fetcher: Fetcher, private val limits: Limits) {
    private val random = Random()
    var requests = 0
        private set
    var received = 0L
        private set

    /** Fetch a file and make sure that it is what is signed. */
    fun download(target: TargetInfo, progress: (Long) -> Unit): File {
        val part = File(folder, "${target.sha256}.part")
        val resumed = part.exists()
        try {
            attempts(target, part, progress)
        } catch (error: TrustException) {
            if (!resumed) throw error
            attempts(target, part, progress) // the earlier attempt's bytes may have been the wrong ones
        }
        return part
    }

    private fun attempts(target: TargetInfo, part: File, progress: (Long) -> Unit) {
        val end = System.nanoTime() + limits.deadlineMillis * 1_000_000
        for (attempt in 0 until limits.attempts) {
            try {
                return once(target, part, end, progress)
            } catch (error: NotThereException) {
                throw error
            } catch (error: LineException) {
                val pause = (limits.pauseMillis * (1L shl minOf(attempt, 30)) * (0.5 + random.nextDouble())).toLong()
                if (attempt + 1 == limits.attempts || System.nanoTime() + pause * 1_000_000 > end) throw error
                sleep(pause)
            }
        }
        throw LineException("no attempt was allowed")
    }

    private fun sleep(millis: Long) =
        try {
            Thread.sleep(millis)
        } catch (error: InterruptedException) {
            Thread.currentThread().interrupt()
            throw LineException("the refresh was interrupted", error)
        }

    private fun once(target: TargetInfo, part: File, end: Long, progress: (Long) -> Unit) {
        try {
            more(target, part, end, progress)
            if (!part.matches(target.length, target.sha256)) {
                throw TrustException("${target.path} is not what is signed (its SHA-256 differs)")
            }
        } catch (error: TrustException) {
            part.delete()
            throw error
        }
    }

    private fun more(target: TargetInfo, part: File, end: Long, progress: (Long) -> Unit) {
        if (part.length() > target.length) part.delete()
        val have = part.length()
        if (part.exists() && have == target.length) return
        ask(target, have).use { answer ->
            val goesOn = have > 0 && answer.status == 206 && answer.begin == have
            if (answer.status != 200 && !goesOn) throw refusal(target, answer.status)
            val got = append(target, part, goesOn, answer, end, progress)
            if (got < target.length) throw LineException("${target.path} ended after $got of ${target.length} bytes")
        }
    }

    private fun refusal(target: TargetInfo, status: Int): LineException =
        if (status in GONE) {
            NotThereException("${target.path} is not there (HTTP $status)")
        } else {
            LineException("the server answers ${target.path} with HTTP $status")
        }

    private fun ask(target: TargetInfo, begin: Long): Answer {
        requests++
        return onTheLine(target) { fetcher.ask(target.url, begin) }
    }

    /** A server that knows no ranges begins again, and so does the part. */
    private fun append(
        target: TargetInfo,
        part: File,
        goesOn: Boolean,
        answer: Answer,
        end: Long,
        progress: (Long) -> Unit,
    ): Long {
        var have = if (goesOn) part.length() else 0
        FileOutputStream(part, goesOn).use { file ->
            val piece = ByteArray(PIECE_BYTES)
            while (true) {
                val size = onTheLine(target) { answer.bytes.read(piece) }
                if (size < 0) return have
                received += size
                have += size
                if (have > target.length) {
                    throw TrustException("${target.path} has more than the ${target.length} bytes that are signed")
                }
                if (System.nanoTime() > end) {
                    throw LineException("${target.path} takes longer than ${limits.deadlineMillis / 1000} seconds")
                }
                file.write(piece, 0, size)
                progress(have)
            }
        }
    }

    /** Tells failures of the line from those of the disk, which are IOExceptions alike. */
    private inline fun <T> onTheLine(target: TargetInfo, work: () -> T): T =
        try {
            work()
        } catch (error: IOException) {
            throw LineException("the line failed at ${target.path} (${error.message})", error)
        }

    private companion object {
        const val PIECE_BYTES = 1 shl 16
        val GONE = setOf(403, 404, 410)
    }
}
