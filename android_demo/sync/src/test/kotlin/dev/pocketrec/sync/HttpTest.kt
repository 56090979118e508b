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

/** The line itself: where it may go, and that it gives up. */
class HttpTest {
    @TempDir lateinit var folder: File
    private lateinit var far: FarSide
    private val content = ByteArray(1000) { it.toByte() }
    private val line = HttpFetcher(connectMillis = 500, readMillis = 200)

    @BeforeEach fun begin() {
        File(folder, "file").writeBytes(content)
        far = FarSide(folder)
    }

    @AfterEach fun end() = far.close()

    private fun get(url: String = "${far.url}/file") = line.ask(url, 0).use { it.bytes.readBytes() }

    @Test fun `a file comes whole, or from a byte on`() {
        assertArrayEquals(content, get())
        line.ask("${far.url}/file", 400).use { answer ->
            assertEquals(206 to 400L, answer.status to answer.begin)
            assertArrayEquals(content.copyOfRange(400, 1000), answer.bytes.readBytes())
        }
    }

    @Test fun `only https, unless it is this machine`() {
        val others = listOf("http://far.side/f", "http://localhost.far/f", "ftp://127.0.0.1/f", "file:///f", "far.side")
        for (url in others) {
            assertThrows(SyncException::class.java, { get(url) }, url)
        }
        assertThrows(IOException::class.java) { HttpFetcher(allowHttp = true).ask("http://nowhere.invalid/f", 0) }
    }

    @Test fun `redirects are followed a few times, and only to where may be asked`() {
        far.plan = { number, _ -> if (number < 3) FarSide.redirect { it } else FarSide.well }
        assertArrayEquals(content, get())
        far.plan = { _, _ -> FarSide.redirect { it } }
        assertThrows(LineException::class.java) { get() }
        far.plan = { _, _ -> FarSide.redirect { "http://far.side$it" } }
        assertThrows(SyncException::class.java) { get() }
    }

    @Test fun `a line that stalls is given up`() {
        far.plan = { _, _ -> FarSide.stall }
        assertThrows(IOException::class.java) { get() }
    }

    @Test fun `nobody there is a line that failed`() {
        far.close()
        assertThrows(IOException::class.java) { get() }
    }

    @Test fun `an error page is not a file`() {
        far.plan = { _, _ -> FarSide.status(500) }
        line.ask("${far.url}/file", 0).use { assertEquals(500, it.status) }
        line.ask("${far.url}/none", 0).use { assertEquals(404, it.status) }
    }

    @Test fun `an answer is not waited for once it is of no use`() {
        far.plan = { _, _ -> FarSide.endless }
        val begin = System.nanoTime()
        line.ask("${far.url}/file", 0).use { it.bytes.read(ByteArray(10)) }
        assertTrue(System.nanoTime() - begin < 2_000_000_000)
    }
}
