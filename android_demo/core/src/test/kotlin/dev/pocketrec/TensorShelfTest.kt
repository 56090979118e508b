package dev.pocketrec

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File
import java.lang.ref.Reference

/** The tensors of a trie are made once, and closed when the trie is not reachable any more. */
class TensorShelfTest {
    private fun trie(name: String) = ItemTrie.open(File(Vectors.bundle(name), "trie.safetensors"))

    @Test
    fun `tensors are made once and hold the buffers of the trie`() {
        for (name in listOf("plain", "wide")) {
            TensorShelf().use { shelf ->
                val trie = trie(name)
                val made = shelf.of(trie.nodes)
                assertSame(made, shelf.of(trie.nodes))
                assertEquals(trie.nodes.firstChild, made.firstChild.intBuffer)
                val codes = made.codes.byteBuffer
                assertEquals(if (name == "wide") 2 * trie.nodes.count else trie.nodes.count, codes.remaining())
                assertEquals(trie.nodes.codes.duplicate().rewind(), codes)
            }
        }
    }

    @Test
    fun `the tensors of an unreachable sub-catalogue are closed`() {
        TensorShelf().use { shelf ->
            val whole = trie("wide")
            shelf.of(whole.nodes)
            shelf.of(whole.filterIds(listOf("item-1")).nodes)
            val gone = afterCollection(shelf)
            assertNotNull(gone)
            shelf.close(gone!!)
            assertNull(shelf.nextForgotten())
            assertTrue(shelf.of(whole.nodes).firstChild.intBuffer.remaining() > 1)
        }
    }

    @Test
    fun `any number of sub-catalogues can be used, from several threads`() {
        Recommender.load(Vectors.bundle("wide")).use { recommender ->
            val threads = List(3) { n ->
                Thread {
                    for (turn in 0 until 300) {
                        val one = recommender.trie.filterIds(listOf("item-${1 + (turn + n) % 2}"))
                        if (recommender.recommend(emptyList(), within = one).size != 1) throw IllegalStateException()
                        if (turn % 50 == 0) System.gc()
                    }
                }
            }
            val failures = ArrayList<Throwable>()
            val handler = Thread.UncaughtExceptionHandler { _, error -> synchronized(failures) { failures.add(error) } }
            for (thread in threads) thread.uncaughtExceptionHandler = handler
            threads.forEach { it.start() }
            threads.forEach { it.join() }
            assertEquals(emptyList<Throwable>(), failures)
        }
    }

    private fun afterCollection(shelf: TensorShelf): Reference<out Nodes>? {
        repeat(100) {
            System.gc()
            shelf.nextForgotten()?.let { return it }
            Thread.sleep(20)
        }
        return null
    }
}
