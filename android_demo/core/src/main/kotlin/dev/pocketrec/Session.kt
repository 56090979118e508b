package dev.pocketrec

/**
 * The growing history of one user, and the state of the model after reading it: until the history is longer than the
 * model reads, a call costs one step for each new item. It returns what [Recommender.recommend] returns for the same
 * history. Calls from several threads take turns.
 *
 * @property renewed whether it was saved under another model
 */
class Session internal constructor(
    internal val loaded: LoadedBundle, history: List<String>, val renewed: Boolean,
) {
    private val leaves = ArrayList<Int>()
    private val unknownIds = LinkedHashSet<String>()
    private var state: State? = null
    private var read = 0 // how many of the leaves the state has read

    init {
        extend(history)
    }

    /** Ids of the known items, oldest first. */
    val history: List<String> @Synchronized get() = leaves.map { loaded.trie.table.id(it) }

    /** Observed ids that are not in the catalogue, each once. */
    val unknown: List<String> @Synchronized get() = unknownIds.toList()

    /** Adds an item to the history; false if the catalogue lacks it. */
    @Synchronized
    fun observe(itemId: String): Boolean = extend(listOf(itemId))

    /** Recommends the items most likely to come next; arguments as for [Recommender.recommend]. */
    @JvmOverloads
    fun recommend(
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: ItemTrie? = null,
        beam: Int? = null,
        control: Control? = null,
    ): Recommendations = evaluate(Query(k, excludeSeen, within, beam, control))

    @Synchronized
    internal fun evaluate(query: Query): Recommendations {
        val state = caughtUp()
        val items = loaded.retrieval.evaluate(query, leaves) { catalogue, excluded, beam, bias ->
            loaded.engine.searchFrom(state, catalogue, excluded, beam, bias)
        }
        return Recommendations(items, emptyList())
    }

    /** The item ids and the model's id as bytes, which Python reads, too. The state is computed again from them. */
    @Synchronized
    fun toBytes(): ByteArray = SavedSession(history, loaded.bundle.modelId).toBytes()

    /**
     * The same session on another bundle. The state is kept if the model is the same and no read item has a new
     * semantic ID.
     */
    @Synchronized
    internal fun movedTo(other: LoadedBundle, observed: List<String>): Session {
        val sameModel = loaded.bundle.modelId == other.bundle.modelId
        val moved = Session(other, observed, !sameModel)
        if (!sameModel || moved.leaves.size < read) return moved
        if (other.sids(moved.leaves.subList(0, read)) == loaded.sids(leaves.subList(0, read))) {
            moved.state = state
            moved.read = read
        }
        return moved
    }

    private fun extend(ids: List<String>): Boolean {
        val (known, unknown) = loaded.findLeaves(ids)
        leaves.addAll(known)
        unknownIds.addAll(unknown)
        return unknown.isEmpty()
    }

    /** The state after the whole history; the model reads the items that it has not read yet. */
    private fun caughtUp(): State {
        loaded.checkOpen()
        val longest = loaded.maxHistory
        val before = state
        val now = if (before == null || read < leaves.size && leaves.size > longest) {
            val window = leaves.takeLast(longest) // positions count from the window's start, so all is read again
            loaded.engine.read(loaded.sids(window), window.size, null)
        } else {
            val more = leaves.subList(read, leaves.size)
            loaded.engine.read(loaded.sids(more), more.size, before)
        }
        state = now
        read = leaves.size
        return now
    }
}
