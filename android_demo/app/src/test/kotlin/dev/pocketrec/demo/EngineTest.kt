package dev.pocketrec.demo

import dev.pocketrec.demo.model.Engine
import dev.pocketrec.demo.model.name
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class EngineTest {
    private val recommender = Vectors.recommender()
    private val engine = Engine(recommender, null)

    @AfterEach
    fun close() = engine.close()

    private fun stateless(history: List<String>) = recommender.recommend(history, 10).map { it.itemId }

    private fun asked(history: List<String>, query: String? = null) = engine.recommend(history, query).map { it.item.itemId }

    @Test
    fun `whatever way a history changes, the answer is that of a stateless call`() {
        val histories = listOf(
            emptyList(),
            listOf("item-3"),
            listOf("item-3", "item-5", "item-9"),
            listOf("item-3", "item-9"),
            listOf("item-3", "item-9", "item-1"),
            emptyList(),
        )
        for (history in histories) assertEquals(stateless(history), asked(history), "$history")
    }

    @Test
    fun `a query makes a sub-catalogue`() {
        val found = asked(listOf("item-3"), "title 1")
        assertTrue(found.isNotEmpty() && found.all { it.startsWith("item-1") || it.endsWith("1") }, "$found")
    }

    @Test
    fun `a query that nothing matches gives nothing`() = assertEquals(emptyList<String>(), asked(listOf("item-3"), "no such words"))

    @Test
    fun `the search takes words in any order and case, and lists by name`() {
        assertEquals(listOf("Title 12"), engine.matching("12 TITLE").map { it.name })
        assertEquals(60, engine.matching("  ").size)
        val names = engine.matching("").map { it.name }
        assertEquals(names.sortedBy { it.lowercase() }, names)
    }

    @Test
    fun `a reason is an item of the history, and the one that helps most`() {
        val history = listOf("item-3", "item-5", "item-9")
        for (pick in engine.recommend(history, null)) {
            val best = recommender.explain(history, pick.item.itemId).drivers.first()
            assertEquals(best.itemId.takeIf { best.change > 0 }, engine.because(history, pick.item)?.itemId)
        }
    }

    @Test
    fun `a saved session goes on in another process`() {
        engine.recommend(listOf("item-3", "item-5"), null)
        val other = Engine(Vectors.recommender(), engine.saved())
        assertEquals(listOf("item-3", "item-5"), other.history.map { it.itemId })
        other.close()
    }

    @Test
    fun `a session that cannot be read begins anew`() {
        val other = Engine(Vectors.recommender(), "damaged".toByteArray())
        assertEquals(0, other.history.size)
        other.close()
    }
}
