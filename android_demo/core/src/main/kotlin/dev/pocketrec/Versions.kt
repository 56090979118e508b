package dev.pocketrec

import java.util.Collections
import java.util.WeakHashMap

/** Filters and biases that are prepared again for every version of the catalogue (see [LiveRecommender.control]). */
class LiveControl internal constructor(internal val prepare: (Recommender) -> Control)

/** A version that is open, and how many calls run on it. */
internal class Version(val recommender: Recommender) {
    var calls = 0
    var retired = false
    private val controls: MutableMap<LiveControl, Control> = Collections.synchronizedMap(WeakHashMap())

    /** The parameters of a call on this version. `within`: the name of a sub-catalogue. */
    fun query(k: Int, excludeSeen: Boolean, within: String?, beam: Int?, control: LiveControl?) =
        Query(k, excludeSeen, within?.let(recommender::catalogue), beam, control?.let(::prepared))

    fun prepared(control: LiveControl): Control =
        controls[control] ?: control.prepare(recommender).also { controls[control] = it }
}

/** The current version of a live recommender. A version is closed when it is retired and its last call has ended. */
internal class Versions(first: Recommender) {
    private val lock = Any() // guards the fields below, and the calls of versions; held for moments
    private var version = Version(first)
    private var closed = false

    val current: Recommender get() = synchronized(lock) { version.recommender }

    /** Runs a block on the current version, which stays open until the block ends. */
    fun <T> using(block: (Version) -> T): T {
        val mine = synchronized(lock) {
            if (closed) throw closedError()
            version.also { it.calls++ }
        }
        try {
            return block(mine)
        } finally {
            val isDone = synchronized(lock) { --mine.calls == 0 && mine.retired }
            if (isDone) mine.recommender.close()
        }
    }

    /** Makes another version the current one. */
    fun replace(next: Recommender) {
        val old = synchronized(lock) {
            if (closed) throw closedError()
            retire().also { version = Version(next) }
        }
        old?.recommender?.close()
    }

    /** Ends with the current version; later calls are refused. */
    fun close() {
        val old = synchronized(lock) {
            if (closed) return
            closed = true
            retire()
        }
        old?.recommender?.close()
    }

    /** Retires the current version; returns it if no call runs on it, so that it can be closed at once. */
    private fun retire(): Version? {
        version.retired = true
        return version.takeIf { it.calls == 0 }
    }
}
