package dev.pocketrec

private const val FORMAT = "pocketrec-session"
private const val VERSION = 1L
private const val MAX_BYTES = 1 shl 24
private const val AGAIN = "start a new session"

/**
 * The history of one user, with what the model has read of it kept: until the history is longer than the model's, a
 * call costs what the new items cost. It gives what [Recommender.recommend] gives for the same history. Calls from
 * several threads take turns.
 *
 * [renewed]: whether it was restored under another model than it was saved with.
 */
class Session internal constructor(
    internal val recommender: Recommender, history: List<String>, val renewed: Boolean,
) {
    private val leaves = ArrayList<Int>()
    private val strangers = LinkedHashSet<String>()
    private var state: State? = null
    private var read = 0 // how many of the leaves the state has read

    init {
        extend(history)
    }

    /** Ids of the known items so far, oldest first. */
    val history: List<String> @Synchronized get() = leaves.map { recommender.trie.table.id(it) }

    /** Ids that were observed but are not in the catalogue, each once. */
    val unknown: List<String> @Synchronized get() = strangers.toList()

    /** Adds an item to the history; returns whether the catalogue has it. */
    @Synchronized
    fun observe(itemId: String): Boolean = extend(listOf(itemId))

    /** Recommends the items most likely to come next; arguments as for [Recommender.recommend]. */
    @JvmOverloads
    @Synchronized
    fun recommend(
        k: Int = 10,
        excludeSeen: Boolean = true,
        within: ItemTrie? = null,
        beam: Int? = null,
        control: Control? = null,
    ): Recommendations =
        recommender.recommendState(caughtUp(), leaves, Ask(k, excludeSeen, within, beam, control))

    /** The session as bytes: its items, and which model it was for. Python reads them, too. */
    @Synchronized
    fun toBytes(): ByteArray = SavedSession.write(history, recommender.bundle.modelId)

    /** Takes over what the same model has read for a session over an older catalogue, if these are its items. */
    internal fun takeState(other: Session) {
        val count = other.read
        if (leaves.size < count) return
        val ours = recommender.sids(leaves.subList(0, count))
        val theirs = other.recommender.sids(other.leaves.subList(0, count))
        if (ours == theirs) {
            state = other.state
            read = count
        }
    }

    private fun extend(ids: List<String>): Boolean {
        val (known, unknown) = recommender.findLeaves(ids)
        leaves.addAll(known)
        strangers.addAll(unknown)
        return unknown.isEmpty()
    }

    /** Lets the model read what it has not read yet. */
    private fun caughtUp(): State {
        recommender.checkOpen()
        val longest = recommender.bundle.manifest.model.maxHistory
        val before = state
        val now = if (before == null || read < leaves.size && leaves.size > longest) {
            val window = leaves.takeLast(longest) // it has moved: every position is another
            recommender.engine.read(recommender.sids(window), window.size, null)
        } else {
            val more = leaves.subList(read, leaves.size)
            recommender.engine.read(recommender.sids(more), more.size, before)
        }
        state = now
        read = leaves.size
        return now
    }
}

/** What a saved session holds; the bytes are those that Python writes. */
internal class SavedSession(val items: List<String>, val model: String) {
    companion object {
        fun write(items: List<String>, model: String): ByteArray {
            val text = StringBuilder("{\"format\":\"$FORMAT\",\"version\":$VERSION,\"model\":\"$model\",")
            text.append("\"sha256\":\"${digest(items)}\",\"items\":[")
            for ((place, item) in items.withIndex()) {
                if (place > 0) text.append(',')
                StrictJson.plain(item, text)
            }
            return text.append("]}").toString().toByteArray(Charsets.UTF_8)
        }

        fun parse(data: ByteArray): SavedSession {
            if (data.size > MAX_BYTES) throw SessionException("the saved session has over $MAX_BYTES bytes; $AGAIN")
            val content = try {
                StrictJson.parse(data)
            } catch (fault: Fault) {
                throw SessionException("the saved session is damaged (${fault.message}); $AGAIN", fault)
            }
            if (content !is Map<*, *> || content["format"] != FORMAT) {
                throw SessionException("this is no saved session; $AGAIN")
            }
            if (content["version"] != VERSION) {
                throw SessionException(
                    "the saved session is of version ${content["version"].toString().take(20)}, and this pocketrec " +
                        "reads $VERSION; update pocketrec, or $AGAIN",
                )
            }
            val items = (content["items"] as? List<*>)?.map { it as? String }
            val model = content["model"] as? String
            if (items == null || null in items || model == null) {
                throw SessionException("the saved session is damaged (its items are no list of ids); $AGAIN")
            }
            val ids = items.filterNotNull()
            if (content["sha256"] != digest(ids)) {
                throw SessionException(
                    "the saved session is damaged (its items are not those it was saved with); $AGAIN",
                )
            }
            return SavedSession(ids, model)
        }

        private fun digest(items: List<String>): String {
            val text = StringBuilder("[")
            for ((place, item) in items.withIndex()) {
                if (place > 0) text.append(", ")
                StrictJson.ascii(item, text)
            }
            return sha256(text.append(']').toString().toByteArray(Charsets.UTF_8))
        }
    }
}
