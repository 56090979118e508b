package dev.pocketrec.sync

import java.io.Closeable
import java.io.FilterInputStream
import java.io.IOException
import java.io.InputStream
import java.net.HttpURLConnection
import java.net.MalformedURLException
import java.net.URL

/** Fetches files from a server. It needs no trust, since every byte is checked: an app may use its own HTTP client. */
fun interface Fetcher {
    /**
     * Requests a file from byte [begin] on.
     *
     * @throws IOException if there is no response; reading the response may throw it, too
     */
    fun fetch(url: String, begin: Long): Response
}

/**
 * The response of a server.
 *
 * @property status HTTP status code
 * @property begin position of the first byte in the file; null if the server does not say
 * @property bytes the body
 */
class Response @JvmOverloads constructor(
    val status: Int,
    val begin: Long?,
    val bytes: InputStream,
    private val onClose: Closeable = bytes,
) : Closeable {
    override fun close() = onClose.close()
}

/**
 * Fetches with the platform's HTTP client, its proxies and its certificate authorities. Only https is allowed, except
 * for this machine; up to three redirects are followed, under the same rule.
 *
 * @param allowHttp allow http for every host
 */
class HttpFetcher @JvmOverloads constructor(
    private val connectMillis: Int = 10_000,
    private val readMillis: Int = 20_000,
    private val allowHttp: Boolean = false,
) : Fetcher {
    override fun fetch(url: String, begin: Long): Response {
        var address = checked(url)
        repeat(MAX_REDIRECTS + 1) {
            val connection = open(address, begin)
            val status = connection.responseCode
            val next = connection.getHeaderField("Location")
            if (status !in REDIRECTS || next == null) return response(connection, status)
            connection.disconnect()
            address = checked(URL(address, next).toString())
        }
        throw NetworkException("${address.host} redirects more than $MAX_REDIRECTS times")
    }

    private fun checked(url: String): URL {
        val address = try {
            URL(url)
        } catch (error: MalformedURLException) {
            throw SyncException("$url is not a URL", error)
        }
        val isLocal = address.host.trim('[', ']') in LOCAL
        if (address.protocol == "https" || (address.protocol == "http" && (allowHttp || isLocal))) return address
        throw SyncException("$url is not an https URL; use https, so that nobody can see what is fetched")
    }

    private fun open(address: URL, begin: Long): HttpURLConnection {
        val connection = address.openConnection() as HttpURLConnection
        connection.connectTimeout = connectMillis
        connection.readTimeout = readMillis
        connection.instanceFollowRedirects = false
        connection.useCaches = false
        connection.setRequestProperty("Accept-Encoding", "identity") // else Android decompresses, and lengths differ
        connection.setRequestProperty("User-Agent", "pocketrec")
        if (begin > 0) connection.setRequestProperty("Range", "bytes=$begin-")
        return connection
    }

    private fun response(connection: HttpURLConnection, status: Int): Response {
        val found = if (status < 400) connection.inputStream else connection.errorStream
        val bytes = Body(found ?: ByteArray(0).inputStream())
        // A connection with unread bytes is not used again, and its rest is not waited for.
        val onClose = Closeable { if (bytes.ended) bytes.close() else connection.disconnect() }
        return Response(status, beginOf(connection.getHeaderField("Content-Range")), bytes, onClose)
    }

    /** Knows whether it was read to its end. */
    private class Body(input: InputStream) : FilterInputStream(input) {
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

        fun beginOf(range: String?): Long? = range?.let(RANGE::matchEntire)?.groupValues?.get(1)?.toLong()
    }
}
