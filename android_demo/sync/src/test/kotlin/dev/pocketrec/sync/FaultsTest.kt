package dev.pocketrec.sync

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import java.io.File

/** Faults of server and network: the last good version recommends, and the next refresh resumes. */
class FaultsTest : InWorld() {
    private fun quick(store: String = "store") =
        world.client(store, limits = Limits(attempts = 2, pauseMillis = 1, deadlineMillis = 600))

    @ParameterizedTest(name = "{0}")
    @MethodSource("faults")
    fun `a fault at any request leaves a version that works`(name: String) {
        for (number in 0..1) {
            world.behind(2, "store-$number")
            world.server.plan = { at, _ -> if (at == number) FAULTS.getValue(name) else TestServer.well }
            try {
                quick("store-$number").refresh()
            } catch (_: SyncException) {
                assertEquals(2, world.recommended("store-$number"))
            }
            world.server.plan = { _, _ -> TestServer.well }
            quick("store-$number").refresh()
            assertEquals(3, world.recommended("store-$number"))
        }
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("faults")
    fun `a permanent fault is one error and changes nothing`(name: String) {
        world.behind(2)
        world.server.plan = { _, _ -> FAULTS.getValue(name) }
        assertThrows(SyncException::class.java) { quick().refresh() }
        assertEquals(2, world.recommended())
    }

    @Test fun `an interrupted download resumes where it stopped`() {
        world.signed.newest = 1
        world.server.plan = { number, path ->
            if (path.endsWith(".onnx") && number < 4) TestServer.cut(3000) else TestServer.well
        }
        val refreshed = world.client().refresh()
        assertTrue(world.server.requests.any { it.second == 3000 })
        assertEquals(bundleBytes(1), refreshed.bytes)
        assertEquals(1, world.recommended())
    }

    @Test fun `files that were fetched before an interruption are not fetched again`() {
        world.signed.newest = 1
        world.server.plan = { _, path -> if (path.endsWith("search.onnx")) TestServer.cut(100) else TestServer.well }
        assertThrows(NetworkException::class.java) { world.client().refresh() }
        world.server.plan = { _, _ -> TestServer.well }
        world.server.requests.clear()
        world.client().refresh()
        val complete = listOf("encoder.onnx", "recommender.onnx")
        assertTrue(world.server.requests.none { (path, _) -> complete.any(path::endsWith) })
        assertTrue(world.server.requests.single { it.first.endsWith("search.onnx") }.second > 0)
        assertEquals(1, world.recommended())
    }

    @Test fun `without ranges the download begins again`() {
        for (fault in listOf(TestServer.ignoresRanges, TestServer.wrongRange)) {
            val store = "store-${fault.hashCode()}"
            world.behind(1, store)
            world.server.plan = { number, _ -> if (number == 0) TestServer.cut(100) else fault }
            try {
                world.client(store).refresh()
            } catch (_: SyncException) {
                world.server.plan = { _, _ -> TestServer.well }
                world.client(store).refresh()
            }
            world.server.plan = { _, _ -> TestServer.well }
            assertEquals(3, world.recommended(store))
        }
    }

    @Test fun `an endless response is cut at the signed length`() {
        world.behind(2)
        world.server.plan = { _, _ -> TestServer.endless }
        val client = world.client(limits = Limits(attempts = 1, deadlineMillis = 5_000))
        assertThrows(TrustException::class.java) { client.refresh() }
        assertEquals(2, world.recommended())
    }

    @Test fun `a partial file with wrong bytes is deleted`() {
        world.behind(2)
        val manifest = world.signed.refresh().single { it.path == "stable/3/manifest.json" }
        for (size in listOf(10, manifest.length.toInt(), 5000)) {
            File(world.store(), "downloads/${manifest.sha256}.part").writeBytes(ByteArray(size))
        }
        world.client().refresh()
        assertEquals(3, world.recommended())
    }

    @Test fun `a damaged patch falls back to the whole file`() {
        val client = world.behind(2)
        world.server.plan = { _, path -> if (path.endsWith(".zst")) TestServer.corrupt else TestServer.well }
        assertEquals(How.FILES, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `a signed but invalid patch falls back to the whole file`() {
        val client = world.behind(2)
        val other = world.signed.refresh().single { it.path == "stable/3/README.md" }
        world.signed.others = { all ->
            all.map { if (it.path.endsWith(".zst")) other.copy(path = it.path) else it }
        }
        assertEquals(How.FILES, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `a patch for a damaged base falls back to the whole file`() {
        val client = world.behind(2)
        val base = File(world.store(), "versions/${Vectors.name(2)}/trie.safetensors")
        base.writeBytes(base.readBytes().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() })
        assertEquals(How.FILES, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `a damaged stored file is fetched again`() {
        val client = world.behind(2)
        File(world.store(), "versions/${Vectors.name(2)}/search.onnx").writeBytes(ByteArray(3))
        client.refresh()
        assertEquals(3, world.recommended())
    }

    @Test fun `targets that cannot have been verified are refused`() {
        val client = world.behind(2)
        val forgeries = listOf<(List<TargetInfo>) -> List<TargetInfo>>(
            { all -> all + all.first() },
            { all -> all.map { it.copy(sha256 = "none") } },
            { all -> all.map { it.copy(length = -1) } },
            { throw IllegalStateException("a signature is missing") },
        )
        for (forgery in forgeries) {
            world.signed.others = forgery
            assertThrows(TrustException::class.java) { client.refresh() }
            assertEquals(2, world.recommended())
        }
    }

    @Test fun `errors of the verifier are passed on`() {
        val client = world.behind(2)
        for (refusal in listOf(TrustException("expired"), NetworkException("cut"), StoreException("full"))) {
            world.signed.refusal = refusal
            assertEquals(refusal, assertThrows(refusal.javaClass) { client.refresh() })
            assertEquals(2, world.recommended())
        }
    }

    @Test fun `a release whose manifest does not match its signed files is refused`() {
        val client = world.behind(2)
        world.signed.others = { all -> all.filterNot { it.path == "stable/3/search.onnx" } }
        assertFalse(client.refresh().changed)
        assertEquals(1, client.status().bad.size)
        assertEquals(2, world.recommended())
    }

    private fun bundleBytes(release: Long) =
        world.signed.refresh().filter { it.path.startsWith("stable/$release/") }.sumOf { it.length }

    companion object {
        val FAULTS = mapOf(
            "cut at once" to TestServer.cut(0),
            "cut" to TestServer.cut(50),
            "short" to TestServer.short,
            "longer" to TestServer.longer,
            "wrong bytes" to TestServer.corrupt,
            "endless" to TestServer.endless,
            "stall" to TestServer.stall,
            "drip" to TestServer.drip,
            "404" to TestServer.status(404),
            "500" to TestServer.status(500),
            "416" to TestServer.status(416),
            "redirect loop" to TestServer.redirect { it },
            "redirect to http" to TestServer.redirect { "http://elsewhere.example$it" },
        )

        @JvmStatic fun faults() = FAULTS.keys.toList()
    }
}
