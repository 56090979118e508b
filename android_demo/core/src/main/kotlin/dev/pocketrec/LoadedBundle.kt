package dev.pocketrec

import java.io.File
import java.nio.IntBuffer

/** A bundle that is open: what recommenders and sessions share. Calls from several threads at once are safe. */
internal class LoadedBundle private constructor(
    val bundle: Bundle, val trie: ItemTrie, val engine: Engine, cold: ColdItems?,
) : AutoCloseable {
    /** Number of history items that the model reads. */
    val maxHistory = bundle.manifest.model.maxHistory
    val retrieval = Retrieval(trie, bundle.manifest.model.beam, cold)
    @Volatile private var closed = false

    /** Leaf rows of a history's known items, and its unknown ids, each once. */
    fun findLeaves(history: List<String>): Pair<List<Int>, List<String>> {
        val unknown = LinkedHashSet<String>()
        val leaves = ArrayList<Int>(history.size)
        for (id in history) {
            val row = trie.table.find(id)
            if (row >= 0) leaves.add(row) else unknown.add(id)
        }
        return Pair(leaves, unknown.toList())
    }

    /** Semantic IDs [leaves, levels] of leaves of the whole catalogue: the history input of the graphs. */
    fun sids(leaves: List<Int>): IntBuffer {
        val out = ints(leaves.size * trie.levels)
        for (leaf in leaves) {
            for (level in 0 until trie.levels) out.put(trie.code(leaf, level))
        }
        out.rewind()
        return out
    }

    fun checkOpen() {
        if (closed) throw closedError()
    }

    override fun close() {
        closed = true
        engine.close()
    }

    companion object {
        fun load(folder: File, options: RecommenderOptions): LoadedBundle {
            val bundle = Bundle.open(folder)
            val trie = bundle.loadTrie()
            val cold = if (options.coldItems) bundle.loadCold(trie.size) else null
            val engine = Engine(bundle, options.threads)
            try {
                bundle.checkUnchanged()
            } catch (error: PocketRecException) {
                engine.close()
                throw error
            }
            return LoadedBundle(bundle, trie, engine, cold)
        }
    }
}
