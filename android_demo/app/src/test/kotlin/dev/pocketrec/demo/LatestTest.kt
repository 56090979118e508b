package dev.pocketrec.demo

import dev.pocketrec.demo.model.Latest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class LatestTest {
    private val worker = Turns()
    private val ui = Turns()
    private val latest = Latest(worker, ui)
    private val seen = mutableListOf<String>()

    private fun ask(name: String) = latest.ask {
        seen += "asked $name"
        show { seen += "shown $name" }
    }

    @Test
    fun `what was overtaken before it began is never begun`() {
        ask("a")
        ask("b")
        settle(worker, ui)
        assertEquals(listOf("asked b", "shown b"), seen)
    }

    @Test
    fun `what was overtaken while it ran is not shown`() {
        ask("a")
        worker.one()
        ask("b")
        settle(ui, worker)
        assertEquals(listOf("asked a", "asked b", "shown b"), seen)
    }

    @Test
    fun `work is told that it was overtaken`() {
        val states = mutableListOf<Boolean>()
        latest.ask {
            states += current
            ask("b")
            states += current
        }
        settle(worker, ui)
        assertEquals(listOf(true, false), states)
    }
}
