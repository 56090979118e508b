package dev.pocketrec.demo

import dev.pocketrec.demo.model.UserRecommender
import dev.pocketrec.demo.model.name
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class UserRecommenderTest {
    private val recommender = Vectors.recommender()
    private val user = UserRecommender(recommender, null)

    @AfterEach
    fun close() = user.close()

    private fun stateless(history: List<String>) = recommender.recommend(history, 10).map { it.itemId }

    private fun recommended(history: List<String>, query: String? = null) = user.recommend(history, query).map { it.item.itemId }

    @Test
    fun `however a history changes, the list is that of a stateless call`() {
        val histories = listOf(
            emptyList(),
            listOf("item-3"),
            listOf("item-3", "item-5", "item-9"),
            listOf("item-3", "item-9"),
            listOf("item-3", "item-9", "item-1"),
            emptyList(),
        )
        for (history in histories) assertEquals(stateless(history), recommended(history), "$history")
    }

    @Test
    fun `a query limits the list to matching items`() {
        val found = recommended(listOf("item-3"), "title 1")
        assertTrue(found.isNotEmpty() && found.all { it.startsWith("item-1") || it.endsWith("1") }, "$found")
    }

    @Test
    fun `a query that nothing matches gives nothing`() = assertEquals(emptyList<String>(), recommended(listOf("item-3"), "no such words"))

    @Test
    fun `the search takes words in any order and case, and lists by name`() {
        assertEquals(listOf("Title 12"), user.matching("12 TITLE").map { it.name })
        assertEquals(60, user.matching("  ").size)
        val names = user.matching("").map { it.name }
        assertEquals(names.sortedBy { it.lowercase() }, names)
    }

    @Test
    fun `the reason is the history item that raises the score most`() {
        val history = listOf("item-3", "item-5", "item-9")
        for (pick in user.recommend(history, null)) {
            val best = recommender.explain(history, pick.item.itemId).drivers.first()
            assertEquals(best.itemId.takeIf { best.change > 0 }, user.because(history, pick.item)?.itemId)
        }
    }

    @Test
    fun `a saved session is resumed in another process`() {
        user.recommend(listOf("item-3", "item-5"), null)
        val other = UserRecommender(Vectors.recommender(), user.saved())
        assertEquals(listOf("item-3", "item-5"), other.history.map { it.itemId })
        other.close()
    }

    @Test
    fun `a damaged session is replaced by a new one`() {
        val other = UserRecommender(Vectors.recommender(), "damaged".toByteArray())
        assertEquals(0, other.history.size)
        other.close()
    }
}
