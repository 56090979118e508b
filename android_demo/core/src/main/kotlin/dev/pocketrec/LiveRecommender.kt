package dev.pocketrec

/**
 * A recommender that can be replaced while it is used. A call in flight finishes on the version it began with; a
 * version is closed when its last call ends. Sessions, named sub-catalogues and controls go on over a swap. Calls from
 * several threads at once are safe.
 */
class LiveRecommender(first: Recommender) : AutoCloseable {
    private val versions = Versions(first)
    private val changes = Any() // one swap or new name at a time
    private var named: Map<String, Collection<String>> = emptyMap()

    /** The current version. It may be closed at any time by a swap; use [using] for one that stays open. */
    val current: Recommender get() = versions.current

    /** Runs a block on the current version, which stays open until the block ends. */
    fun <T> using(block: (Recommender) -> T): T = versions.using { block(it.recommender) }

    /**
     * Moves to another version; the one before is closed when its last call ends.
     *
     * @throws ConfigException if this recommender was closed; the caller then still owns `next`.
     */
    fun swap(next: Recommender) = synchronized(changes) {
        if (next !== current) {
            for ((name, ids) in named) next.addCatalogue(name, ids)
            versions.replace(next)
        }
    }

    /** As [Recommender.recommend]. `within`: a name from [addCatalogue]; `control`: made by [control]. */
    @JvmOverloads
    fun recommend(
        history: List<String>,
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: String? = null,
        beam: Int? = null,
        control: LiveControl? = null,
    ): Recommendations = versions.using { version ->
        version.recommender.evaluate(history, version.query(k, excludeSeen, within, beam, control))
    }

    /** Names a sub-catalogue; it is prepared again for every version. */
    fun addCatalogue(name: String, ids: Collection<String>) = synchronized(changes) {
        val kept = ids.toList()
        using { it.addCatalogue(name, kept) }
        named = named + (name to kept)
    }

    /** As [Recommender.control], and again for every version. `within`: a name from [addCatalogue]. */
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
        versions.using { it.prepared(made) } // refuses wrong arguments now
        return made
    }

    /** Begins a session that goes on over swaps. */
    @JvmOverloads
    fun session(history: List<String> = emptyList()): LiveSession =
        using { LiveSession(versions, it.session(history), history) }

    /** Resumes a saved session (see [Recommender.restoreSession]). */
    fun restoreSession(saved: ByteArray): LiveSession =
        using { recommender -> recommender.restoreSession(saved).let { LiveSession(versions, it, it.history) } }

    /** As [Recommender.explain]. */
    fun explain(history: List<String>, itemId: String): Explanation = using { it.explain(history, itemId) }

    /** Closes the current version when its last call has ended; may be called twice. */
    override fun close() = versions.close()
}
