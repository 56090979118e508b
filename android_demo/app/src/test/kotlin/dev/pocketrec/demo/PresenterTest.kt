package dev.pocketrec.demo

import dev.pocketrec.Recommender
import dev.pocketrec.demo.model.Models
import dev.pocketrec.demo.model.Presenter
import dev.pocketrec.demo.model.SessionFile
import dev.pocketrec.demo.model.Screen
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import java.io.File
import java.io.IOException

class PresenterTest {
    @TempDir
    lateinit var files: File

    private val worker = Turns()
    private val background = Turns()
    private val ui = Turns()

    private class Fixed(val first: () -> Recommender, val next: () -> Recommender? = { null }) : Models {
        override fun first() = first.invoke()

        override fun newer() = next()
    }

    private fun presenter(models: Models = Fixed({ Vectors.recommender() })) =
        Presenter(models, SessionFile(File(files, "session")), worker, background, ui).apply { start() }

    private fun Presenter.settled(): Screen {
        settle(worker, background, ui)
        return screen
    }

    private fun Presenter.tap(name: String) = toggle(screen.catalogue.single { it.title == name })

    @Test
    fun `the first screen has the catalogue, recommendations for an empty history, and the model's size`() {
        val screen = presenter().settled()
        assertEquals(60, screen.catalogue.size)
        assertEquals(10, screen.picks.size)
        assertEquals(60, screen.model?.items)
        assertTrue(screen.model!!.bytes > 50_000)
        assertTrue(screen.nanoseconds > 0)
        assertNull(screen.problem)
    }

    @Test
    fun `a tap changes the recommendations, a second one on the same item brings the old ones back`() {
        val presenter = presenter()
        val before = presenter.settled().picks.map { it.item.itemId }
        presenter.tap("Title 3")
        val after = presenter.settled()
        assertEquals(listOf("Title 3"), after.history.map { it.title })
        assertNotEquals(before, after.picks.map { it.item.itemId })
        presenter.tap("Title 3")
        assertEquals(before, presenter.settled().picks.map { it.item.itemId })
    }

    @Test
    fun `the history changes at once, before the model has run`() {
        val presenter = presenter()
        presenter.settled()
        presenter.tap("Title 3")
        assertEquals(1, presenter.screen.history.size)
    }

    @Test
    fun `reasons come after the list`() {
        val presenter = presenter()
        presenter.settled()
        val drawn = mutableListOf<Screen>()
        presenter.draw = { drawn += it }
        presenter.tap("Title 3")
        presenter.tap("Title 5")
        val settled = presenter.settled()
        val fresh = drawn.first { it.picks.map { pick -> pick.item } == settled.picks.map { pick -> pick.item } }
        assertTrue(fresh.picks.all { it.because == null })
        assertTrue(settled.picks.any { it.because == "Title 3" || it.because == "Title 5" })
    }

    @Test
    fun `of several taps only the last is recommended for`() {
        val presenter = presenter()
        presenter.settled()
        val drawn = mutableListOf<Screen>()
        presenter.draw = { drawn += it }
        for (n in 1..5) presenter.tap("Title $n")
        presenter.settled()
        assertEquals(2, drawn.map { it.nanoseconds }.distinct().size, "the list before the taps and the one after all of them")
    }

    @Test
    fun `recommendations can be limited to search results`() {
        val presenter = presenter()
        presenter.settled()
        presenter.search("title 2")
        assertTrue(presenter.settled().picks.any { "2" !in it.item.itemId })
        presenter.onlyMatches(true)
        assertTrue(presenter.settled().picks.all { "2" in it.item.itemId })
        presenter.search("title 1")
        assertTrue(presenter.settled().picks.all { "1" in it.item.itemId })
    }

    @Test
    fun `the history outlives the process`() {
        val first = presenter()
        first.settled()
        first.tap("Title 3")
        first.tap("Title 5")
        val picks = first.settled().picks.map { it.item.itemId }
        val second = presenter().settled()
        assertEquals(listOf("item-3", "item-5"), second.history.map { it.itemId })
        assertEquals(picks, second.picks.map { it.item.itemId })
    }

    @Test
    fun `a newer model replaces the old one and keeps the history`() {
        val old = Vectors.recommender("plain")
        val presenter = presenter(Fixed({ old }, { Vectors.recommender("refreshed") }))
        settle(worker, ui)
        presenter.tap("Title 3")
        val before = presenter.screen.catalogue.map { it.itemId }
        val after = presenter.settled()
        assertNotEquals(before, after.catalogue.map { it.itemId })
        assertEquals(10, after.picks.size)
        assertNotNull(runCatching { old.recommend(emptyList()) }.exceptionOrNull())
    }

    @Test
    fun `if the model does not open, the screen says why, and the app keeps running`() {
        val presenter = presenter(Fixed({ throw IOException("the model could not be unpacked; is the storage full?") }))
        assertEquals("the model could not be unpacked; is the storage full?", presenter.settled().problem)
        presenter.search("x")
        assertFalse(presenter.settled().problem.isNullOrEmpty())
    }
}
