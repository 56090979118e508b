package dev.pocketrec

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.RandomAccessFile
import java.util.Random

private const val ROUNDS = 400

/** Whatever bytes a file has, opening it gives a refusal of this library or something sound: nothing else is thrown. */
class DamageTest {
    @TempDir
    lateinit var folder: File

    /** Damages a file in many ways, the same in every run; counts what was refused. */
    private fun refusals(sound: File, open: (File) -> Unit): Int {
        val random = Random(0)
        val bytes = sound.readBytes()
        return (0 until ROUNDS).count {
            val damaged = bytes.copyOf(if (random.nextInt(8) == 0) random.nextInt(bytes.size) else bytes.size)
            val near = if (random.nextBoolean()) damaged.size else minOf(damaged.size, 400) // headers stand in front
            repeat(if (damaged.isEmpty()) 0 else 1 + random.nextInt(3)) {
                damaged[random.nextInt(near)] = random.nextInt(256).toByte()
            }
            val file = File(folder, sound.name).also { it.writeBytes(damaged) }
            try {
                open(file)
                false
            } catch (refusal: PocketRecException) {
                assertTrue('\n' !in refusal.message!!, refusal.message)
                true
            } catch (fault: Fault) {
                true
            }
        }
    }

    @Test
    fun `a trie`() {
        for (name in listOf("plain", "wide")) {
            val refused = refusals(File(Vectors.bundle(name), "trie.safetensors")) { file ->
                val trie = ItemTrie.open(file)
                for (row in 0 until trie.size) assertTrue(trie.item(row).itemId in trie)
            }
            assertTrue(refused > ROUNDS / 3)
        }
    }

    @Test
    fun `cold items`() {
        val refused = refusals(File(Vectors.bundle("cold"), "cold_items.safetensors")) { ColdItems.open(it, 60) }
        assertTrue(refused > ROUNDS / 3)
    }

    @Test
    fun `a manifest`() {
        val refused = refusals(File(Vectors.bundle("tokens"), "manifest.json")) { Manifest.parse(it.readBytes()) }
        assertTrue(refused > ROUNDS / 3)
    }

    @Test
    fun `a graph's references`() {
        val sizes = mapOf("model.safetensors" to (1L shl 20))
        val refused = refusals(File(Vectors.bundle("plain"), "search.onnx")) { GraphCheck.check(it, sizes) }
        assertTrue(refused > ROUNDS / 30) // the rest is ONNX Runtime's to judge
    }

    @Test
    fun `a saved session`() {
        val sound = File(folder, "sound").also { it.writeText(Vectors.cases("sessions")[0]["saved"] as String) }
        assertTrue(refusals(sound) { SavedSession.parse(it.readBytes()) } > ROUNDS / 2)
    }

    @Test
    fun `a reference is found wherever pieces of the file are cut`() {
        for (place in listOf(0, 1, (1 shl 18) - 9, (1 shl 18) - 8, (1 shl 18) - 3, 1 shl 18, (1 shl 19) - 4)) {
            val file = File(folder, "graph").also { it.writeBytes(ByteArray(place) + "location".toByteArray()) }
            assertThrows(Fault::class.java, { GraphCheck.check(file, emptyMap()) }, "$place")
        }
    }

    @Test
    fun `a file of more than a map holds is refused without being read`() {
        val file = File(folder, "large").also { RandomAccessFile(it, "rw").use { large -> large.setLength(1L shl 31) } }
        assertThrows(Fault::class.java) { TensorFile.open(file) }
    }

    @Test
    fun `a bundle for llama cpp alone is refused as such`() {
        val bundle = File(folder, "gguf")
        Vectors.bundle("plain").copyRecursively(bundle)
        val manifest = File(bundle, "manifest.json")
        val graphs = Regex("\"graphs\": \\{[^}]*\\}")
        manifest.writeText(graphs.replace(manifest.readText(), "\"graphs\": {\"backbone\": \"model.safetensors\"}"))
        val refusal = assertThrows(BundleException::class.java) { Recommender.load(bundle) }
        assertTrue("it is for llama.cpp" in refusal.message!!, refusal.message)
    }

    @Test
    fun `half a character matches no item`() {
        Recommender.load(Vectors.bundle("plain")).use {
            assertEquals(listOf("item-\ud800"), it.recommend(listOf("item-\ud800", "item-1")).unknown)
        }
    }
}
