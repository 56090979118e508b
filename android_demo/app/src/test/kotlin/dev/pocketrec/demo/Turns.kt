package dev.pocketrec.demo

import java.util.concurrent.Executor

/** A thread of which the test decides when it runs. */
class Turns : Executor {
    private val waiting = ArrayDeque<Runnable>()

    override fun execute(work: Runnable) {
        waiting += work
    }

    /** Run the oldest piece of work; false if there is none. */
    fun one(): Boolean {
        val work = waiting.removeFirstOrNull() ?: return false
        work.run()
        return true
    }
}

/** Let threads run, in turns, until all of them have nothing to do. */
fun settle(vararg threads: Turns) {
    do {
        val busy = threads.any { it.one() }
    } while (busy)
}
