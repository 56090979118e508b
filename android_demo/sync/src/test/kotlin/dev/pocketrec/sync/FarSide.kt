package dev.pocketrec.sync

import com.sun.net.httpserver.HttpExchange
import com.sun.net.httpserver.HttpServer
import java.io.File
import java.net.InetSocketAddress
import java.util.Collections
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit

/** What goes wrong with an answer: sends the content from a byte on, in its own way. */
typealias Fault = FarSide.(HttpExchange, content: ByteArray, begin: Int) -> Unit

/** A server on this machine that serves a folder, and fails as told. */
class FarSide(private val folder: File) : AutoCloseable {
    private val server = HttpServer.create(InetSocketAddress("127.0.0.1", 0), 0)
    private val pool = Executors.newCachedThreadPool()
    private val closing = CountDownLatch(1)
    val url = "http://127.0.0.1:${server.address.port}"

    /** Paths that were asked for, and from which byte on. */
    val asked: MutableList<Pair<String, Int>> = Collections.synchronizedList(ArrayList())

    /** Which fault befalls the question of a number (from 0) for a path. */
    @Volatile var plan: (number: Int, path: String) -> Fault = { _, _ -> well }

    init {
        server.executor = pool
        server.createContext("/") { exchange -> exchange.use(::answer) }
        server.start()
    }

    private fun HttpExchange.use(work: (HttpExchange) -> Unit) =
        try {
            work(this)
        } catch (_: java.io.IOException) { // the client went away
        } finally {
            close()
        }

    private fun answer(exchange: HttpExchange) {
        val path = exchange.requestURI.path
        val range = exchange.requestHeaders.getFirst("Range")
        val begin = range?.removePrefix("bytes=")?.substringBefore('-')?.toInt() ?: 0
        val number = synchronized(asked) { asked.add(path to begin).let { asked.size - 1 } }
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
        /** Promises the content from a byte on, and sends it up to another. */
        private fun send(exchange: HttpExchange, content: ByteArray, begin: Int, sent: Int = content.size) {
            val range = "bytes $begin-${content.size - 1}/${content.size}"
            if (begin > 0) exchange.responseHeaders.add("Content-Range", range)
            exchange.sendResponseHeaders(if (begin > 0) 206 else 200, (content.size - begin).toLong())
            exchange.responseBody.write(content, begin, minOf(sent, content.size) - begin)
            exchange.responseBody.flush()
        }

        val well: Fault = { exchange, content, begin -> send(exchange, content, begin) }

        fun cut(after: Int): Fault = { exchange, content, begin -> send(exchange, content, begin, begin + after) }

        /** Ends early, as if that were all. */
        val short: Fault = { exchange, content, begin ->
            send(exchange, content.copyOf(maxOf(begin + 1, content.size - 7)), begin)
        }

        val longer: Fault = { exchange, content, begin -> send(exchange, content + 1, begin) }

        val corrupt: Fault = { exchange, content, begin ->
            val middle = content.size / 2
            send(exchange, content.copyOf().also { it[middle] = (it[middle].toInt() xor 0xff).toByte() }, begin)
        }

        val endless: Fault = { exchange, _, _ ->
            exchange.sendResponseHeaders(200, 0)
            while (true) exchange.responseBody.write(ByteArray(4096))
        }

        val stall: Fault = { exchange, content, begin ->
            send(exchange, content, begin, begin + 10)
            closing.await(20, TimeUnit.SECONDS)
        }

        /** A few bytes at a time, never silent for long. */
        val drip: Fault = { exchange, content, begin ->
            exchange.sendResponseHeaders(if (begin > 0) 206 else 200, 0)
            for (byte in content) {
                exchange.responseBody.write(byte.toInt())
                exchange.responseBody.flush()
                if (closing.await(20, TimeUnit.MILLISECONDS)) break
            }
        }

        val ignoresRanges: Fault = { exchange, content, _ -> send(exchange, content, 0) }

        /** Says that it goes on, from elsewhere. */
        val wrongRange: Fault = { exchange, content, begin -> send(exchange, content, maxOf(begin - 1, 0)) }

        fun status(code: Int): Fault = { exchange, _, _ ->
            val page = "an error page".toByteArray()
            exchange.sendResponseHeaders(code, page.size.toLong())
            exchange.responseBody.write(page)
        }

        fun redirect(to: (String) -> String): Fault = { exchange, _, _ ->
            exchange.responseHeaders.add("Location", to(exchange.requestURI.path))
            exchange.sendResponseHeaders(302, -1)
        }
    }
}
