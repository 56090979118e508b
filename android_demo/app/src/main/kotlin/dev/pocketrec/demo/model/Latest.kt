package dev.pocketrec.demo.model

import java.util.concurrent.Executor
import java.util.concurrent.atomic.AtomicLong

/**
 * Questions of which only the newest counts: one that was overtaken is not begun, is told to stop where it runs, and is
 * not shown.
 *
 * Fast tapping then costs no more than its last tap, and an old answer can never cover a new one.
 *
 * @param worker runs the work, one piece after the other
 * @param screen runs what shows results; the thread that calls [ask], too
 */
class Latest(private val worker: Executor, private val screen: Executor) {
    private val newest = AtomicLong()

    /** Run [work] on the worker, unless something newer was asked by then. */
    fun ask(work: Question.() -> Unit) {
        val question = Question(newest.incrementAndGet())
        worker.execute { if (question.current) question.work() }
    }

    inner class Question(private val number: Long) {
        /** Whether nothing newer was asked. */
        val current: Boolean get() = newest.get() == number

        /** Run [block] on the screen's thread, unless something newer was asked by then. */
        fun show(block: () -> Unit) = screen.execute { if (current) block() }
    }
}
