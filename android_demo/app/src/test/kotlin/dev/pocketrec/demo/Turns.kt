package dev.pocketrec.demo

import java.util.concurrent.Executor

/** An executor that runs its work when the test says so. */
class Turns : Executor {
    private val waiting = ArrayDeque<Runnable>()

    override fun execute(work: Runnable) {
        waiting += work
    }

    /** Runs the oldest work; false if there is none. */
    fun one(): Boolean {
        val work = waiting.removeFirstOrNull() ?: return false
        work.run()
        return true
    }
}

/** Runs executors in turns until none has work left. */
fun settle(vararg threads: Turns) {
    do {
        val busy = threads.any { it.one() }
    } while (busy)
}
