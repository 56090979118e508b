package dev.pocketrec.demo.model

import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicLong

/**
 * Runs tasks of which only the newest counts. A task that was replaced by a newer one is not started, can stop early,
 * and does not show its result.
 *
 * So fast tapping costs no more than its last tap, and an old result never replaces a newer one.
 *
 * @param worker runs the tasks, one after the other
 * @param screen runs what shows results; it must be the thread that calls [submit]
 */
class Latest(private val worker: Executor, private val screen: Executor) {
    private val newest = AtomicLong()

    /** Runs [work] on the worker, unless a newer task was submitted by then. */
    fun submit(work: Task.() -> Unit) {
        val task = Task(newest.incrementAndGet())
        worker.execute { if (task.isNewest) task.work() }
    }

    inner class Task(private val number: Long) {
        /** Whether no newer task was submitted. */
        val isNewest: Boolean get() = newest.get() == number

        /** Runs [block] on the screen's thread, unless a newer task was submitted by then. */
        fun show(block: () -> Unit) = screen.execute { if (isNewest) block() }
    }
}
