package dev.pocketrec

import dev.pocketrec.internal.Fault
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.RandomAccessFile
import java.util.Random

private const val ROUNDS = 400

/** A damaged file is refused with an error of this library, or its content is still valid; nothing else is thrown. */
class DamageTest {
    @TempDir
    lateinit var folder: File

    /** Damages a file in many ways, the same in every run; returns how many were refused. */
    private fun refusals(valid: File, open: (File) -> Unit): Int {
        val random = Random(0)
        val bytes = valid.readBytes()
        return (0 until ROUNDS).count {
            val damaged = bytes.copyOf(if (random.nextInt(8) == 0) random.nextInt(bytes.size) else bytes.size)
            val end = if (random.nextBoolean()) damaged.size else minOf(damaged.size, 400) // often the header
            repeat(if (damaged.isEmpty()) 0 else 1 + random.nextInt(3)) {
                damaged[random.nextInt(end)] = random.nextInt(256).toByte()
            }
            val file = File(folder, valid.name).also { it.writeBytes(damaged) }
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
        val refused = refusals(File(Vectors.bundle("plain"), "search.onnx")) { OnnxCheck.check(it, sizes) }
        assertTrue(refused > ROUNDS / 30) // ONNX Runtime checks the rest
    }

    @Test
    fun `a saved session`() {
        val valid = File(folder, "valid").also { it.writeText(Vectors.cases("sessions")[0]["saved"] as String) }
        assertTrue(refusals(valid) { SavedSession.parse(it.readBytes()) } > ROUNDS / 2)
    }

    @Test
    fun `a reference that spans two pieces of the file is found`() {
        for (place in listOf(0, 1, (1 shl 18) - 9, (1 shl 18) - 8, (1 shl 18) - 3, 1 shl 18, (1 shl 19) - 4)) {
            val file = File(folder, "graph").also { it.writeBytes(ByteArray(place) + "location".toByteArray()) }
            assertThrows(Fault::class.java, { OnnxCheck.check(file, emptyMap()) }, "$place")
        }
    }

    @Test
    fun `a file that is too large for a memory map is refused without being read`() {
        val file = File(folder, "large").also { RandomAccessFile(it, "rw").use { large -> large.setLength(1L shl 31) } }
        assertThrows(Fault::class.java) { SafetensorsFile.open(file) }
    }

    @Test
    fun `a bundle for llama cpp only is refused, and the error says so`() {
        val bundle = File(folder, "gguf")
        Vectors.bundle("plain").copyRecursively(bundle)
        val manifest = File(bundle, "manifest.json")
        val graphs = Regex("\"graphs\": \\{[^}]*\\}")
        manifest.writeText(graphs.replace(manifest.readText(), "\"graphs\": {\"backbone\": \"model.safetensors\"}"))
        val refusal = assertThrows(BundleException::class.java) { Recommender.load(bundle) }
        assertTrue("it is for llama.cpp" in refusal.message!!, refusal.message)
    }

    @Test
    fun `an id with a lone surrogate matches no item`() {
        Recommender.load(Vectors.bundle("plain")).use {
            assertEquals(listOf("item-\ud800"), it.recommend(listOf("item-\ud800", "item-1")).unknown)
        }
    }
}
