package dev.pocketrec.demo

import dev.pocketrec.Recommender
import dev.pocketrec.demo.model.FirstBundle
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.IOException

class FirstBundleTest {
    @TempDir
    lateinit var home: File

    private val opened = mutableListOf<String>()

    private fun inside(app: File, broken: String? = null) = FirstBundle(home, app.list()!!.sorted()) { name ->
        opened += name
        if (name == broken) throw IOException("no space left") else File(app, name).inputStream()
    }

    @Test
    fun `the copy is a valid bundle`() {
        Recommender.load(inside(Vectors.bundle()).folder()).use { assertEquals(60, it.trie.size) }
    }

    @Test
    fun `a second start copies nothing`() {
        val first = inside(Vectors.bundle()).folder()
        opened.clear()
        assertEquals(first, inside(Vectors.bundle()).folder())
        assertEquals(listOf("manifest.json"), opened)
    }

    @Test
    fun `an update with another bundle replaces the copy`() {
        val first = inside(Vectors.bundle("plain")).folder()
        val second = inside(Vectors.bundle("refreshed")).folder()
        assertNotEquals(first, second)
        assertEquals(listOf(second), home.listFiles()!!.toList())
    }

    @Test
    fun `an interrupted start leaves no folder that looks complete`() {
        assertThrows(IOException::class.java) { inside(Vectors.bundle(), broken = "trie.safetensors").folder() }
        Recommender.load(inside(Vectors.bundle()).folder()).close()
        assertEquals(1, home.list()!!.size)
    }

    @Test
    fun `without a bundle in the app, the error says what to do`() {
        val empty = File(home, "empty").apply { mkdirs() }
        val problem = assertThrows(IOException::class.java) { inside(empty).folder() }
        assertEquals("the app was built without a bundle; run app/bundle.sh and build it again", problem.message)
    }
}
