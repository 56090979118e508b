package dev.pocketrec.sync

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.io.File
import java.net.InetSocketAddress
import java.util.Collections
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit

/** How a request is served: sends the content from a byte on, with or without a fault. */
typealias Behaviour = TestServer.(HttpExchange, content: ByteArray, begin: Int) -> Unit

/** An HTTP server for a folder, with faults on demand. */
class TestServer(private val folder: File) : AutoCloseable {
    private val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0)
    private val pool = Executors.newCachedThreadPool()
    private val closing = CountDownLatch(1)
    val url = "http://127.0.0.1:${server.address.port}"

    /** The path and the first byte of each request. */
    val requests: MutableList<Pair<String, Int>> = Collections.synchronizedList(ArrayList())

    /** How each request is served, by its number (from 0) and path. */
    @Volatile var plan: (number: Int, path: String) -> Behaviour = { _, _ -> well }

    init {
        server.executor = pool
        server.createContext("/") { exchange -> exchange.use(::serve) }
        server.start()
    }

    private fun HttpExchange.use(work: (HttpExchange) -> Unit) =
        try {
            work(this)
        } catch (_: java.io.IOException) { // the client closed the connection
        } finally {
            close()
        }

    private fun serve(exchange: HttpExchange) {
        val path = exchange.requestURI.path
        val range = exchange.requestHeaders.getFirst("Range")
        val begin = range?.removePrefix("bytes=")?.substringBefore('-')?.toInt() ?: 0
        val number = synchronized(requests) { requests.add(path to begin).let { requests.size - 1 } }
        val file = File(folder, path)
        if (!file.isFile) return status(404)(exchange, ByteArray(0), 0)
        plan(number, path)(exchange, file.readBytes(), begin)
    }

    override fun close() {
        closing.countDown()
        server.stop(0)
        pool.shutdownNow()
    }

    companion object {
        /** Announces the content from a byte on, and sends it up to byte `sent`. */
        private fun send(exchange: HttpExchange, content: ByteArray, begin: Int, sent: Int = content.size) {
            val range = "bytes $begin-${content.size - 1}/${content.size}"
            if (begin > 0) exchange.responseHeaders.add("Content-Range", range)
            exchange.sendResponseHeaders(if (begin > 0) 206 else 200, (content.size - begin).toLong())
            exchange.responseBody.write(content, begin, minOf(sent, content.size) - begin)
            exchange.responseBody.flush()
        }

        val well: Behaviour = { exchange, content, begin -> send(exchange, content, begin) }

        fun cut(after: Int): Behaviour = { exchange, content, begin -> send(exchange, content, begin, begin + after) }

        /** Announces and sends a shorter content. */
        val short: Behaviour = { exchange, content, begin ->
            send(exchange, content.copyOf(maxOf(begin + 1, content.size - 7)), begin)
        }

        val longer: Behaviour = { exchange, content, begin -> send(exchange, content + 1, begin) }

        val corrupt: Behaviour = { exchange, content, begin ->
            val middle = content.size / 2
            send(exchange, content.copyOf().also { it[middle] = (it[middle].toInt() xor 0xff).toByte() }, begin)
        }

        val endless: Behaviour = { exchange, _, _ ->
            exchange.sendResponseHeaders(200, 0)
            while (true) exchange.responseBody.write(ByteArray(4096))
        }

        val stall: Behaviour = { exchange, content, begin ->
            send(exchange, content, begin, begin + 10)
            closing.await(20, TimeUnit.SECONDS)
        }

        /** Sends one byte at a time, slowly. */
        val drip: Behaviour = { exchange, content, begin ->
            exchange.sendResponseHeaders(if (begin > 0) 206 else 200, 0)
            for (byte in content) {
                exchange.responseBody.write(byte.toInt())
                exchange.responseBody.flush()
                if (closing.await(20, TimeUnit.MILLISECONDS)) break
            }
        }

        val ignoresRanges: Behaviour = { exchange, content, _ -> send(exchange, content, 0) }

        /** Resumes from another byte than requested. */
        val wrongRange: Behaviour = { exchange, content, begin -> send(exchange, content, maxOf(begin - 1, 0)) }

        fun status(code: Int): Behaviour = { exchange, _, _ ->
            val page = "an error page".toByteArray()
            exchange.sendResponseHeaders(code, page.size.toLong())
            exchange.responseBody.write(page)
        }

        fun redirect(to: (String) -> String): Behaviour = { exchange, _, _ ->
            exchange.responseHeaders.add("Location", to(exchange.requestURI.path))
            exchange.sendResponseHeaders(302, -1)
        }
    }
}
