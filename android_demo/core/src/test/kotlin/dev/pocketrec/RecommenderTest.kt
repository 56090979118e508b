package dev.pocketrec

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.Random
import java.util.concurrent.Callable
import java.util.concurrent.CountDownLatch
import java.util.concurrent.Executors
import java.util.concurrent.TimeUnit
import kotlinx.coroutines.runBlocking

/** What vectors cannot test: threads, closing, swaps under load, links, large catalogues. */
class RecommenderTest {
    private fun load(name: String = "plain") = Recommender.load(Vectors.bundle(name))

    @Test
    fun `calls from several threads give the same lists as single calls`() {
        load().use { recommender ->
            val histories = (0 until 64).map { n -> (0 until n % 6).map { "item-${n * it % 60}" } }
            val alone = histories.map { recommender.recommend(it) }
            val pool = Executors.newFixedThreadPool(4)
            val found = pool.invokeAll(histories.map { Callable { recommender.recommend(it) } }).map { it.get() }
            pool.shutdown()
            assertEquals(alone.map { it.items }, found.map { it.items })
        }
    }

    @Test
    fun `k or beam above the size of the catalogue counts as its size`() {
        load().use { recommender ->
            val history = listOf("item-1")
            for (within in listOf(recommender.trie, recommender.trie.filterIds(listOf("item-3", "item-4")))) {
                for (n in listOf(60, 1_000_000, Int.MAX_VALUE)) {
                    val all = recommender.recommend(history, 60, false, within)
                    assertEquals(all, recommender.recommend(history, n, false, within))
                    val five = recommender.recommend(history, 5, false, within, 60)
                    assertEquals(five, recommender.recommend(history, 5, false, within, n))
                    assertEquals(five.items, recommender.session(history).recommend(5, false, within, n).items)
                }
            }
        }
    }

    @Test
    fun `a bundle with crowd and words says that they are not used, and recommends by the model alone`(@TempDir folder: File) {
        val copy = File(folder, "bundle")
        Vectors.bundle("plain").copyRecursively(copy)
        val none = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of no bytes
        val listed = listOf("graph.safetensors", "words.safetensors").joinToString("") { name ->
            File(copy, name).createNewFile()
            "\"$name\": {\"bytes\": 0, \"sha256\": \"$none\"}, "
        }
        val manifest = File(copy, "manifest.json")
        manifest.writeText(manifest.readText().replaceFirst(Regex("\"files\": *\\{"), "\"files\": {$listed"))
        val history = listOf("item-1", "item-2")
        val expected = load().use { assertEquals(emptyList<String>(), it.unusedParts); it.recommend(history).items }
        Recommender.load(copy).use {
            assertEquals(listOf("crowd", "words"), it.unusedParts)
            assertEquals(expected, it.recommend(history).items)
        }
    }

    @Test
    fun `a closed recommender refuses calls, and may be closed twice`() {
        val recommender = load()
        val session = recommender.session(listOf("item-1"))
        recommender.close()
        recommender.close()
        assertThrows(ConfigException::class.java) { recommender.recommend(emptyList()) }
        assertThrows(ConfigException::class.java) { session.recommend() }
    }

    @Test
    fun `closing waits for running calls`() {
        repeat(5) {
            val recommender = load()
            val begun = CountDownLatch(4)
            val pool = Executors.newFixedThreadPool(4)
            val calls = (0 until 4).map {
                pool.submit(Callable { begun.countDown(); countUntilClosed(recommender) })
            }
            begun.await()
            recommender.close()
            for (call in calls) assertEquals(0, call.get(20, TimeUnit.SECONDS) % 59)
            pool.shutdown()
        }
    }

    @Test
    fun `every call during swaps runs on one version or the other`() {
        val live = LiveRecommender(load("plain"))
        val either = listOf("plain", "refreshed").map { name ->
            load(name).use { one -> one.recommend(listOf("item-2"), k = 100).map { it.itemId } }
        }
        val pool = Executors.newFixedThreadPool(3)
        val done = CountDownLatch(1)
        val calls = (0 until 3).map {
            pool.submit(Callable {
                var count = 0
                while (done.count > 0) {
                    assertTrue(live.recommend(listOf("item-2"), k = 100).map { it.itemId } in either)
                    count++
                }
                count
            })
        }
        for (n in 1..20) live.swap(load(if (n % 2 == 1) "refreshed" else "plain"))
        done.countDown()
        for (call in calls) assertTrue(call.get(20, TimeUnit.SECONDS) > 0)
        pool.shutdown()
        live.close()
        assertThrows(ConfigException::class.java) { live.recommend(emptyList()) }
    }

    @Test
    fun `named catalogues hold for later versions`() {
        LiveRecommender(load("plain")).use { live ->
            live.addCatalogue("few", listOf("item-4", "item-5", "item-6"))
            assertEquals(setOf("item-4", "item-5", "item-6"), live.recommend(emptyList(), within = "few").ids())
            live.swap(load("refreshed"))
            assertEquals(setOf("item-5", "item-6"), live.recommend(emptyList(), within = "few").ids())
            assertThrows(ConfigException::class.java) { live.recommend(emptyList(), within = "none") }
        }
    }

    @Test
    fun `controls hold for later versions, in sessions too`() {
        LiveRecommender(load("plain")).use { live ->
            live.addCatalogue("few", listOf("item-4", "item-5", "item-6"))
            val control = live.control(deny = listOf("item-6"), within = "few", bias = mapOf("item-5" to 20.0))
            val session = live.session()
            assertEquals(listOf("item-5", "item-4"), live.recommend(emptyList(), control = control).map { it.itemId })
            live.swap(load("refreshed"))
            assertEquals(listOf("item-5"), live.recommend(emptyList(), control = control).map { it.itemId })
            assertEquals(listOf("item-5"), session.recommend(control = control).map { it.itemId })
            assertThrows(ConfigException::class.java) { live.control(diversity = 2.0) }
        }
    }

    @Test
    fun `a swap to the current version changes nothing, and a closed recommender refuses swaps`() {
        val live = LiveRecommender(load("plain"))
        live.swap(live.current)
        assertEquals(10, live.recommend(emptyList()).size)
        live.close()
        live.close()
        load("refreshed").use { next ->
            assertThrows(ConfigException::class.java) { live.swap(next) }
            assertEquals(10, next.recommend(emptyList()).size)
        }
    }

    @Test
    fun `recommendations equal a list of the same items`() {
        load().use { assertEquals(it.recommend(emptyList()).toList(), it.recommend(emptyList())) }
    }

    @Test
    fun `a link in place of a file is refused`(@TempDir folder: File) {
        val bundle = File(folder, "b")
        Vectors.bundle("plain").copyRecursively(bundle)
        val trie = File(bundle, "trie.safetensors")
        val elsewhere = File(folder, "elsewhere").also { trie.renameTo(it) }
        java.nio.file.Files.createSymbolicLink(trie.toPath(), elsewhere.toPath())
        val error = assertThrows(BundleException::class.java) { Bundle.open(bundle) }
        assertTrue("not a plain file" in error.message!!)
    }

    @Test
    fun `a file that changes after the check is not used`(@TempDir folder: File) {
        val bundle = File(folder, "b")
        Vectors.bundle("plain").copyRecursively(bundle)
        val opened = Bundle.open(bundle)
        File(bundle, "trie.safetensors").setLastModified(1_000_000_000L)
        val error = assertThrows(BundleException::class.java) { opened.loadTrie() }
        assertTrue("changed after it was checked" in error.message!!)
    }

    @Test
    fun `a sub-catalogue of another catalogue is refused`() {
        load().use { one ->
            load().use { other ->
                val foreign = other.trie.filterIds(listOf("item-1"))
                assertThrows(ConfigException::class.java) { one.recommend(emptyList(), within = foreign) }
                assertThrows(ConfigException::class.java) { one.recommend(emptyList(), control = other.control()) }
            }
        }
    }

    @Test
    fun `a session under another model is renewed`() {
        load("plain").use { old ->
            load("grouped").use { other ->
                val saved = old.session(listOf("item-1", "item-2")).toBytes()
                assertTrue(other.restoreSession(saved).renewed)
                assertFalse(old.restoreSession(saved).renewed)
            }
        }
    }

    @Test
    fun `suspending calls give the same lists as blocking calls`() = runBlocking {
        load().use { assertEquals(it.recommend(listOf("item-7")).items, it.recommendAsync(listOf("item-7")).items) }
    }

    @Test
    fun `a million items open in seconds and are found by row and by id`(@TempDir folder: File) {
        val file = File(folder, "trie.safetensors").also { largeTrie(it, 1_000_000) }
        val begun = System.nanoTime()
        val trie = ItemTrie.open(file)
        val seconds = (System.nanoTime() - begun) / 1e9
        assertTrue(seconds < 20, "took $seconds s") // guards against a hang; not a benchmark
        for (row in listOf(0, 1, 77_777, 999_999)) assertTrue(trie.item(row).itemId in trie)
        assertFalse("item-1000000" in trie)
        assertEquals(1 + 16 + 3907 + 1_000_000, trie.nodes.count)
        assertEquals(listOf(16, 256, 256), trie.nodes.maxBranch.toList())
    }

    private fun countUntilClosed(recommender: Recommender): Int {
        var count = 0
        try {
            while (true) count += recommender.recommend(listOf("item-3"), k = 60).size
        } catch (error: ConfigException) {
            return count
        }
    }

    private fun Recommendations.ids() = map { it.itemId }.toSet()

    /** Writes a catalogue of random ids with all SIDs of 16 x 256 x 256 up to n. */
    private fun largeTrie(file: File, n: Int) {
        val ids = (0 until n).map { "item-$it" }.shuffled(Random(0)).map { it.toByteArray() }
        val bytes = ids.sumOf { it.size }
        val metadata = """{"codes_per_level":"256","format":"pocketrec.trie","sid_space":"x","version":"2"}"""
        val header = """{"__metadata__":$metadata,""" +
            """"id_lengths":{"dtype":"U16","shape":[$n],"data_offsets":[0,${2 * n}]},""" +
            """"codes":{"dtype":"U8","shape":[$n,3],"data_offsets":[${2 * n},${5 * n}]},""" +
            """"id_bytes":{"dtype":"U8","shape":[$bytes],"data_offsets":[${5 * n},${5 * n + bytes}]}}"""
        val out = ByteBuffer.allocate(8 + header.length + 5 * n + bytes).order(ByteOrder.LITTLE_ENDIAN)
        out.putLong(header.length.toLong()).put(header.toByteArray())
        for (id in ids) out.putShort(id.size.toShort())
        for (row in 0 until n) out.put((row / 65536).toByte()).put((row / 256 % 256).toByte()).put((row % 256).toByte())
        for (id in ids) out.put(id)
        file.writeBytes(out.array())
    }
}
