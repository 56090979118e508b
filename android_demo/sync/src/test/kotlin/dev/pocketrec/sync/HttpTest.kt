package dev.pocketrec.sync

import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.BeforeEach
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.IOException

/** The HTTP fetcher: which URLs it accepts, and when it gives up. */
class HttpTest {
    @TempDir lateinit var folder: File
    private lateinit var server: TestServer
    private val content = ByteArray(1000) { it.toByte() }
    private val fetcher = HttpFetcher(connectMillis = 500, readMillis = 200)

    @BeforeEach fun begin() {
        File(folder, "file").writeBytes(content)
        server = TestServer(folder)
    }

    @AfterEach fun end() = server.close()

    private fun get(url: String = "${server.url}/file") = fetcher.fetch(url, 0).use { it.bytes.readBytes() }

    @Test fun `a file is fetched whole, or from a byte on`() {
        assertArrayEquals(content, get())
        fetcher.fetch("${server.url}/file", 400).use { response ->
            assertEquals(206 to 400L, response.status to response.begin)
            assertArrayEquals(content.copyOfRange(400, 1000), response.bytes.readBytes())
        }
    }

    @Test fun `only https is allowed, except for this machine`() {
        val http = listOf("http://elsewhere.example/f", "http://localhost.example/f")
        val others = http + listOf("ftp://127.0.0.1/f", "file:///f", "elsewhere.example")
        for (url in others) {
            assertThrows(SyncException::class.java, { get(url) }, url)
        }
        assertThrows(IOException::class.java) { HttpFetcher(allowHttp = true).fetch("http://nowhere.invalid/f", 0) }
    }

    @Test fun `redirects are followed a few times, and only to allowed URLs`() {
        server.plan = { number, _ -> if (number < 3) TestServer.redirect { it } else TestServer.well }
        assertArrayEquals(content, get())
        server.plan = { _, _ -> TestServer.redirect { it } }
        assertThrows(NetworkException::class.java) { get() }
        server.plan = { _, _ -> TestServer.redirect { "http://elsewhere.example$it" } }
        assertThrows(SyncException::class.java) { get() }
    }

    @Test fun `a stalled connection is an error`() {
        server.plan = { _, _ -> TestServer.stall }
        assertThrows(IOException::class.java) { get() }
    }

    @Test fun `a missing server is an error`() {
        server.close()
        assertThrows(IOException::class.java) { get() }
    }

    @Test fun `the status of an error page is returned`() {
        server.plan = { _, _ -> TestServer.status(500) }
        fetcher.fetch("${server.url}/file", 0).use { assertEquals(500, it.status) }
        fetcher.fetch("${server.url}/none", 0).use { assertEquals(404, it.status) }
    }

    @Test fun `closing does not wait for the rest of a response`() {
        server.plan = { _, _ -> TestServer.endless }
        val begin = System.nanoTime()
        fetcher.fetch("${server.url}/file", 0).use { it.bytes.read(ByteArray(10)) }
        assertTrue(System.nanoTime() - begin < 2_000_000_000)
    }
}
