package dev.pocketrec.demo

import dev.pocketrec.demo.model.Latest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class LatestTest {
    private val worker = Turns()
    private val ui = Turns()
    private val latest = Latest(worker, ui)
    private val log = mutableListOf<String>()

    private fun submit(name: String) = latest.submit {
        log += "ran $name"
        show { log += "shown $name" }
    }

    @Test
    fun `a task that was replaced before it started is not started`() {
        submit("a")
        submit("b")
        settle(worker, ui)
        assertEquals(listOf("ran b", "shown b"), log)
    }

    @Test
    fun `a task that was replaced while it ran is not shown`() {
        submit("a")
        worker.one()
        submit("b")
        settle(ui, worker)
        assertEquals(listOf("ran a", "ran b", "shown b"), log)
    }

    @Test
    fun `a running task can see that it was replaced`() {
        val states = mutableListOf<Boolean>()
        latest.submit {
            states += isNewest
            submit("b")
            states += isNewest
        }
        settle(worker, ui)
        assertEquals(listOf(true, false), states)
    }
}
