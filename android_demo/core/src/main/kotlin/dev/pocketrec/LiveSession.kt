package dev.pocketrec

/**
 * One user's history that grows, on whatever version is current. With the same model, what it has read is kept over a
 * swap as long as every item still has its semantic ID. Calls from several threads take turns.
 */
class LiveSession internal constructor(
    private val live: LiveRecommender, private var inner: Session, history: List<String>,
) {
    private val observed = ArrayList(history)

    /** Whether it was restored under another model, or a swap brought one, so that the history was read anew. */
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

    /** Recommends the items most likely to come next; arguments as for [LiveRecommender.recommend]. */
    @JvmOverloads
    @Synchronized
    fun recommend(
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: String? = null,
        beam: Int? = null,
        control: LiveControl? = null,
    ): Recommendations = live.holding { held ->
        val part = within?.let(held.recommender::catalogue)
        on(held.recommender).recommend(k, excludeSeen, part, beam, held.prepared(control))
    }

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
