package dev.pocketrec

import java.util.Collections
import java.util.WeakHashMap

/**
 * A recommender that can be replaced while it is used. A call in flight finishes on the version it began with; a
 * version is closed when its last call ends. Sessions, named catalogues and controls go on over a swap. Calls from
 * several threads at once are safe.
 */
class LiveRecommender(first: Recommender) : AutoCloseable {
    private val lock = Any() // guards what is current; held for moments
    private val changes = Any() // one swap or new name at a time
    private var held = Held(first)
    private var closed = false
    private var named: Map<String, Collection<String>> = emptyMap()

    /** The version that is current; one that must stay open is for [using]. */
    val current: Recommender get() = synchronized(lock) { held.recommender }

    /** Runs a block on the current version, which stays open until the block ends. */
    fun <T> using(block: (Recommender) -> T): T = holding { block(it.recommender) }

    internal fun <T> holding(block: (Held) -> T): T {
        val mine = synchronized(lock) {
            if (closed) throw closedError()
            held.also { it.calls++ }
        }
        try {
            return block(mine)
        } finally {
            val done = synchronized(lock) { --mine.calls == 0 && mine.retired }
            if (done) mine.recommender.close()
        }
    }

    /**
     * Goes over to another version; the one before is closed when its last call ends.
     *
     * @throws ConfigException if this was closed; `next` is then still the caller's.
     */
    fun swap(next: Recommender) = synchronized(changes) {
        if (next !== current) {
            for ((name, ids) in named) next.addCatalogue(name, ids)
            replace(Held(next))
        }
    }

    /** As [Recommender.recommend]; `within` is a name of [addCatalogue], `control` what [control] prepared. */
    @JvmOverloads
    fun recommend(
        history: List<String>,
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: String? = null,
        beam: Int? = null,
        control: LiveControl? = null,
    ): Recommendations = holding { held ->
        val part = within?.let(held.recommender::catalogue)
        held.recommender.recommend(history, k, excludeSeen, part, beam, held.prepared(control))
    }

    /** Names a part of the catalogue; it is prepared again for every version. */
    fun addCatalogue(name: String, ids: Collection<String>) = synchronized(changes) {
        val kept = ids.toList()
        using { it.addCatalogue(name, kept) }
        named = named + (name to kept)
    }

    /** Prepares wishes as [Recommender.control] does, and again for every version; `within` is a name. */
    @JvmOverloads
    fun control(
        allow: Collection<String>? = null,
        deny: Collection<String> = emptyList(),
        within: String? = null,
        bias: Map<String, Double>? = null,
        segments: Map<String, String>? = null,
        minScore: Double? = null,
        diversity: Double = 0.0,
    ): LiveControl {
        val made = LiveControl {
            it.control(allow, deny, within?.let(it::catalogue), bias, segments, minScore, diversity)
        }
        holding { it.prepared(made) }
        return made
    }

    /** Begins a session that goes on over swaps. */
    @JvmOverloads
    fun session(history: List<String> = emptyList()): LiveSession =
        using { LiveSession(this, it.session(history), history) }

    /** Goes on with a saved session (see [Recommender.restoreSession]). */
    fun restoreSession(saved: ByteArray): LiveSession =
        using { recommender -> recommender.restoreSession(saved).let { LiveSession(this, it, it.history) } }

    /** As [Recommender.explain]. */
    fun explain(history: List<String>, itemId: String): Explanation = using { it.explain(history, itemId) }

    /** Closes, once the last call has ended; may be called twice. */
    override fun close() {
        if (!synchronized(lock) { closed }) replace(null)
    }

    private fun replace(fresh: Held?) {
        val old: Held
        val idle = synchronized(lock) {
            if (closed) {
                if (fresh == null) return
                throw closedError()
            }
            old = held
            old.retired = true
            closed = fresh == null
            held = fresh ?: old
            old.calls == 0
        }
        if (idle) old.recommender.close()
    }
}

/** Wishes that are prepared anew for every version of the catalogue (see [LiveRecommender.control]). */
class LiveControl internal constructor(internal val prepare: (Recommender) -> Control)

/** A version that is open, and how many calls it is in. */
internal class Held(val recommender: Recommender) {
    var calls = 0
    var retired = false
    private val controls: MutableMap<LiveControl, Control> = Collections.synchronizedMap(WeakHashMap())

    fun prepared(control: LiveControl?): Control? = when (control) {
        null -> null
        else -> controls[control] ?: control.prepare(recommender).also { controls[control] = it }
    }
}
