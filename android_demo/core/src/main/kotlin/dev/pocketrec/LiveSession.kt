package dev.pocketrec

/**
 * The growing history of one user, on the current version of a [LiveRecommender]. Under the same model its state is
 * kept over a swap as long as every read item still has its semantic ID. Calls from several threads take turns.
 */
class LiveSession internal constructor(
    private val versions: Versions, private var inner: Session, history: List<String>,
) {
    private val observed = ArrayList(history)

    /** Whether it was saved under another model, or a swap brought one, so that the model read the history again. */
    @Volatile var renewed: Boolean = inner.renewed
        private set

    /** Ids of the items that the current catalogue has, oldest first. */
    val history: List<String> @Synchronized get() = using { it.history }

    /** Observed ids that are not in the current catalogue, each once. */
    val unknown: List<String> @Synchronized get() = using { it.unknown }

    /** Adds an item to the history; false if the current catalogue lacks it. */
    @Synchronized
    fun observe(itemId: String): Boolean = using { session -> session.observe(itemId).also { observed.add(itemId) } }

    /** Recommends the items most likely to come next; arguments as for [LiveRecommender.recommend]. */
    @JvmOverloads
    @Synchronized
    fun recommend(
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: String? = null,
        beam: Int? = null,
        control: LiveControl? = null,
    ): Recommendations = versions.using { version ->
        on(version.recommender).evaluate(version.query(k, excludeSeen, within, beam, control))
    }

    /** The session as bytes (see [Session.toBytes]). */
    @Synchronized
    fun toBytes(): ByteArray = using { it.toBytes() }

    private fun <T> using(block: (Session) -> T): T = versions.using { block(on(it.recommender)) }

    /** The session on a version; after a swap it is moved there first. */
    private fun on(recommender: Recommender): Session {
        if (inner.loaded !== recommender.loaded) {
            inner = inner.movedTo(recommender.loaded, observed)
            renewed = renewed || inner.renewed
        }
        return inner
    }
}
