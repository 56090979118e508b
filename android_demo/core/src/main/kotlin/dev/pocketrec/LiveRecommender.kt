package dev.pocketrec

/**
 * A recommender that can be replaced while it is used. A call in flight finishes on the version it began with; a version
 * is closed when its last call ends. Sessions and named catalogues go on over a swap.
 */
class LiveRecommender(first: Recommender) : AutoCloseable {
    private class Held(val recommender: Recommender) {
        var calls = 0
        var retired = false
    }

    private val lock = Any()
    private var held = Held(first)
    private var closed = false
    private var named: Map<String, Collection<String>> = emptyMap()

    /** The version that is current; hold on to it only inside [using]. */
    val current: Recommender get() = synchronized(lock) { held.recommender }

    /** Runs a block on the current version, which stays open until the block ends. */
    fun <T> using(block: (Recommender) -> T): T {
        val mine = synchronized(lock) {
            if (closed) throw closedError()
            held.also { it.calls++ }
        }
        try {
            return block(mine.recommender)
        } finally {
            val done = synchronized(lock) { --mine.calls == 0 && mine.retired }
            if (done) mine.recommender.close()
        }
    }

    /** Goes over to another version; the one before is closed when its last call ends. */
    fun swap(next: Recommender) {
        for ((name, ids) in named) next.addCatalogue(name, ids)
        replace(Held(next))
    }

    /** As [Recommender.recommend]; `within` is a name of [addCatalogue]. */
    @JvmOverloads
    fun recommend(
        history: List<String>, k: Int = 10, excludeSeen: Boolean = true, within: String? = null, beam: Int? = null,
    ): Recommendations = using { it.recommend(history, k, excludeSeen, within?.let(it::catalogue), beam) }

    /** Names a part of the catalogue; it is prepared again for every version. */
    fun addCatalogue(name: String, ids: Collection<String>) {
        using { it.addCatalogue(name, ids) }
        synchronized(lock) { named = named + (name to ids.toList()) }
    }

    /** Begins a session that goes on over swaps. */
    @JvmOverloads
    fun session(history: List<String> = emptyList()): LiveSession =
        using { LiveSession(this, it.session(history), history) }

    /** Goes on with a saved session. */
    fun restoreSession(saved: ByteArray): LiveSession =
        using { recommender -> recommender.restoreSession(saved).let { LiveSession(this, it, it.history) } }

    /** Says what each item of the history does for an item's score. */
    fun explain(history: List<String>, itemId: String): Explanation = using { it.explain(history, itemId) }

    override fun close() {
        if (!synchronized(lock) { closed }) replace(null)
    }

    private fun replace(fresh: Held?) {
        val old: Held
        val idle = synchronized(lock) {
            if (closed) throw closedError()
            old = held
            old.retired = true
            closed = fresh == null
            held = fresh ?: old
            old.calls == 0
        }
        if (idle) old.recommender.close()
    }
}

/** One user's history that grows, on whatever version is current. Calls from several threads take turns. */
class LiveSession internal constructor(
    private val live: LiveRecommender, private var inner: Session, history: List<String>,
) {
    private val observed = ArrayList(history)

    /** Whether a swap brought another model, so that the history was read anew. */
    @Volatile var renewed: Boolean = inner.renewed
        private set

    /** Ids of the items so far that the current catalogue has, oldest first. */
    val history: List<String> @Synchronized get() = live.using { on(it).history }

    /** Ids that were observed but are not in the current catalogue, each once. */
    val unknown: List<String> @Synchronized get() = live.using { on(it).unknown }

    /** Adds an item to the history; returns whether the current catalogue has it. */
    @Synchronized
    fun observe(itemId: String): Boolean = live.using { recommender ->
        on(recommender).observe(itemId).also { observed.add(itemId) }
    }

    /** Recommends the items most likely to come next; `within` is a name of [LiveRecommender.addCatalogue]. */
    @JvmOverloads
    @Synchronized
    fun recommend(k: Int = 10, excludeSeen: Boolean = true, within: String? = null, beam: Int? = null): Recommendations =
        live.using { on(it).recommend(k, excludeSeen, within?.let(it::catalogue), beam) }

    /** The session as bytes (see [Session.toBytes]). */
    @Synchronized
    fun toBytes(): ByteArray = live.using { on(it).toBytes() }

    /** The session on a version; after a swap, brought over to it. */
    private fun on(recommender: Recommender): Session {
        if (inner.recommender !== recommender) {
            val same = inner.recommender.bundle.modelId == recommender.bundle.modelId
            val fresh = Session(recommender, observed, !same)
            if (same) fresh.takeState(inner)
            inner = fresh
            renewed = renewed || !same
        }
        return inner
    }
}
