package dev.pocketrec.sync

import java.io.Closeable
import java.io.FilterInputStream
import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.MalformedURLException
import java.net.URL

/** What asks a server for a file. It trusts nobody and is trusted with nothing: an app may plug in its own client. */
fun interface Fetcher {
    /**
     * Ask for a file, from byte [begin] on.
     *
     * @throws IOException if there is no answer; reading it may throw one, too
     */
    fun ask(url: String, begin: Long): Answer
}

/**
 * A server's answer.
 *
 * @property status of HTTP
 * @property begin where in the file its bytes begin; null if it does not say
 */
class Answer @JvmOverloads constructor(
    val status: Int,
    val begin: Long?,
    val bytes: InputStream,
    private val onClose: Closeable = bytes,
) : Closeable {
    override fun close() = onClose.close()
}

/**
 * HTTP by the platform's own client, with its proxies and certificate authorities. Only https, but for this machine or
 * where the app insists; redirects are followed a few times, under the same rule.
 */
class HttpFetcher @JvmOverloads constructor(
    private val connectMillis: Int = 10_000,
    private val readMillis: Int = 20_000,
    private val allowHttp: Boolean = false,
) : Fetcher {
    override fun ask(url: String, begin: Long): Answer {
        var place = address(url)
        repeat(MAX_REDIRECTS + 1) {
            val connection = open(place, begin)
            val status = connection.responseCode
            val next = connection.getHeaderField("Location")
            if (status !in REDIRECTS || next == null) return answer(connection, status)
            connection.disconnect()
            place = address(URL(place, next).toString())
        }
        throw LineException("${place.host} sends from one address to the next")
    }

    private fun address(url: String): URL {
        val place = try {
            URL(url)
        } catch (error: MalformedURLException) {
            throw SyncException("$url is no address", error)
        }
        val isLocal = place.host.trim('[', ']') in LOCAL
        if (place.protocol == "https" || (place.protocol == "http" && (allowHttp || isLocal))) return place
        throw SyncException("$url is no https address; releases are signed, but others could see what is fetched")
    }

    private fun open(place: URL, begin: Long): HttpURLConnection {
        val connection = place.openConnection() as HttpURLConnection
        connection.connectTimeout = connectMillis
        connection.readTimeout = readMillis
        connection.instanceFollowRedirects = false
        connection.useCaches = false
        connection.setRequestProperty("Accept-Encoding", "identity") // else Android unpacks, and lengths differ
        connection.setRequestProperty("User-Agent", "pocketrec")
        if (begin > 0) connection.setRequestProperty("Range", "bytes=$begin-")
        return connection
    }

    private fun answer(connection: HttpURLConnection, status: Int): Answer {
        val found = if (status < 400) connection.inputStream else connection.errorStream
        val bytes = Whole(found ?: ByteArray(0).inputStream())
        // What is left of an answer must not reach the next question, nor be waited for.
        val onClose = Closeable { if (bytes.ended) bytes.close() else connection.disconnect() }
        return Answer(status, beginsAt(connection.getHeaderField("Content-Range")), bytes, onClose)
    }

    /** Knows whether it was read to its end. */
    private class Whole(input: InputStream) : FilterInputStream(input) {
        var ended = false
            private set

        override fun read(bytes: ByteArray, offset: Int, length: Int): Int =
            super.read(bytes, offset, length).also { if (it < 0) ended = true }
    }

    private companion object {
        const val MAX_REDIRECTS = 3
        val REDIRECTS = setOf(301, 302, 303, 307, 308)
        val LOCAL = setOf("127.0.0.1", "::1", "localhost")
        val RANGE = Regex("bytes ([0-9]{1,18})-.*")

        fun beginsAt(range: String?): Long? = range?.let(RANGE::matchEntire)?.groupValues?.get(1)?.toLong()
    }
}
