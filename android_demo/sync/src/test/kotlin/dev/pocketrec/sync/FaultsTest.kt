package dev.pocketrec.sync

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.MethodSource
import java.io.File

/** The far side and the line: whatever they do, the last good version recommends, and the next refresh goes on. */
class FaultsTest : InWorld() {
    private fun quick(store: String = "store") =
        world.client(store, limits = Limits(attempts = 2, pauseMillis = 1, deadlineMillis = 600))

    @ParameterizedTest(name = "{0}")
    @MethodSource("faults")
    fun `a fault at any one question leaves a version that works`(name: String) {
        for (number in 0..1) {
            world.behind(2, "store-$number")
            world.far.plan = { at, _ -> if (at == number) FAULTS.getValue(name) else FarSide.well }
            try {
                quick("store-$number").refresh()
            } catch (_: SyncException) {
                assertEquals(2, world.recommended("store-$number"))
            }
            world.far.plan = { _, _ -> FarSide.well }
            quick("store-$number").refresh()
            assertEquals(3, world.recommended("store-$number"))
        }
    }

    @ParameterizedTest(name = "{0}")
    @MethodSource("faults")
    fun `a fault that stays is one error and changes nothing`(name: String) {
        world.behind(2)
        world.far.plan = { _, _ -> FAULTS.getValue(name) }
        assertThrows(SyncException::class.java) { quick().refresh() }
        assertEquals(2, world.recommended())
    }

    @Test fun `a cut download goes on where it stopped`() {
        world.signed.newest = 1
        world.far.plan = { number, path ->
            if (path.endsWith(".onnx") && number < 4) FarSide.cut(3000) else FarSide.well
        }
        val refreshed = world.client().refresh()
        assertTrue(world.far.asked.any { it.second == 3000 })
        assertEquals(bundleBytes(1), refreshed.bytes)
        assertEquals(1, world.recommended())
    }

    @Test fun `what was fetched before a cut is not fetched again by the next refresh`() {
        world.signed.newest = 1
        world.far.plan = { _, path -> if (path.endsWith("search.onnx")) FarSide.cut(100) else FarSide.well }
        assertThrows(LineException::class.java) { world.client().refresh() }
        world.far.plan = { _, _ -> FarSide.well }
        world.far.asked.clear()
        world.client().refresh()
        assertTrue(world.far.asked.none { it.first.endsWith("encoder.onnx") || it.first.endsWith("recommender.onnx") })
        assertTrue(world.far.asked.single { it.first.endsWith("search.onnx") }.second > 0)
        assertEquals(1, world.recommended())
    }

    @Test fun `a server that does not go on is begun again`() {
        for (fault in listOf(FarSide.ignoresRanges, FarSide.wrongRange)) {
            val store = "store-${fault.hashCode()}"
            world.behind(1, store)
            world.far.plan = { number, _ -> if (number == 0) FarSide.cut(100) else fault }
            try {
                world.client(store).refresh()
            } catch (_: SyncException) {
                world.far.plan = { _, _ -> FarSide.well }
                world.client(store).refresh()
            }
            world.far.plan = { _, _ -> FarSide.well }
            assertEquals(3, world.recommended(store))
        }
    }

    @Test fun `an answer that does not end is left at the signed length`() {
        world.behind(2)
        world.far.plan = { _, _ -> FarSide.endless }
        val client = world.client(limits = Limits(attempts = 1, deadlineMillis = 5_000))
        assertThrows(TrustException::class.java) { client.refresh() }
        assertEquals(2, world.recommended())
    }

    @Test fun `bytes of another file in a part are thrown away`() {
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
        world.far.plan = { _, path -> if (path.endsWith(".zst")) FarSide.corrupt else FarSide.well }
        assertEquals(How.FILES, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `a patch that is signed and yet odd falls back to the whole file`() {
        val client = world.behind(2)
        val odd = world.signed.refresh().single { it.path == "stable/3/README.md" }
        world.signed.others = { all ->
            all.map { if (it.path.endsWith(".zst")) odd.copy(path = it.path) else it }
        }
        assertEquals(How.FILES, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `a patch of a damaged base falls back to the whole file`() {
        val client = world.behind(2)
        val base = File(world.store(), "versions/${Vectors.name(2)}/trie.safetensors")
        base.writeBytes(base.readBytes().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() })
        assertEquals(How.FILES, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `a kept file that was damaged is fetched again`() {
        val client = world.behind(2)
        File(world.store(), "versions/${Vectors.name(2)}/search.onnx").writeBytes(ByteArray(3))
        client.refresh()
        assertEquals(3, world.recommended())
    }

    @Test fun `answers that nobody verified are refused`() {
        val client = world.behind(2)
        val doubts = listOf<(List<TargetInfo>) -> List<TargetInfo>>(
            { all -> all + all.first() },
            { all -> all.map { it.copy(sha256 = "none") } },
            { all -> all.map { it.copy(length = -1) } },
            { throw IllegalStateException("a signature is missing") },
        )
        for (doubt in doubts) {
            world.signed.others = doubt
            assertThrows(TrustException::class.java) { client.refresh() }
            assertEquals(2, world.recommended())
        }
    }

    @Test fun `a verifier that refuses is passed on`() {
        val client = world.behind(2)
        for (refusal in listOf(TrustException("expired"), LineException("cut"), StoreException("full"))) {
            world.signed.refusal = refusal
            assertEquals(refusal, assertThrows(refusal.javaClass) { client.refresh() })
            assertEquals(2, world.recommended())
        }
    }

    @Test fun `files that the manifest does not list as they are signed are no release`() {
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
            "cut at once" to FarSide.cut(0),
            "cut" to FarSide.cut(50),
            "short" to FarSide.short,
            "longer" to FarSide.longer,
            "wrong bytes" to FarSide.corrupt,
            "endless" to FarSide.endless,
            "stall" to FarSide.stall,
            "drip" to FarSide.drip,
            "404" to FarSide.status(404),
            "500" to FarSide.status(500),
            "416" to FarSide.status(416),
            "round and round" to FarSide.redirect { it },
            "to nowhere" to FarSide.redirect { "http://far.side$it" },
        )

        @JvmStatic fun faults() = FAULTS.keys.toList()
    }
}
