package dev.pocketrec

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import dev.pocketrec.internal.oneLine
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.nio.LongBuffer
import java.util.concurrent.locks.ReentrantReadWriteLock
import kotlin.concurrent.read
import kotlin.concurrent.write

/** The state of a model after a history: number of items, hidden state [1, D], keys and values. It never changes. */
internal class State(val items: Int, val hidden: Floats, val memory: Floats)

/** Numbers with their shape, in a direct buffer. */
internal class Floats(val values: FloatBuffer, val shape: LongArray)

/**
 * The engine: ONNX Runtime runs the bundle's graphs, which contain the beam search. Calls from several threads at once
 * are safe, and closing waits for running calls. Each graph is opened on first use.
 */
internal class Engine(private val bundle: Bundle, private val threads: Int) : AutoCloseable {
    private val spec = bundle.manifest.model
    private val restarts = spec.kind == TOKENS_KIND && spec.prompt == 0 // a start token stands for an empty history
    private val noMemory = Floats(
        floats(0), longArrayOf(spec.layers.toLong(), 2, spec.kvHeads.toLong(), 0, spec.headDim.toLong()),
    )
    private val lock = ReentrantReadWriteLock() // read: a graph runs; write: graphs or tensors are opened or closed
    private val graphs = HashMap<String, OrtSession>()
    private val tensors = TensorShelf()
    private var closed = false

    init {
        try {
            lock.write { open("recommender") }
        } catch (error: PocketRecException) {
            close()
            throw error
        }
    }

    /** The best leaves after a history of semantic IDs [items, levels], at most `beam` of them. */
    fun search(history: IntBuffer, items: Int, trie: ItemTrie, excluded: IntArray, beam: Int): Found {
        if (trie.size == 0) return Found.NOTHING
        return using("recommender") { graph, feed ->
            feed.ints("history", history, items.toLong(), spec.levels.toLong())
            results(graph, feed, trie, excluded, beam, null)
        }
    }

    /** The state after more items: semantic IDs [items, levels]. The cost is that of the new items only. */
    fun read(history: IntBuffer, items: Int, before: State?): State {
        if (before != null && items == 0) return before
        val count = before?.items ?: 0
        val past = if (before == null || count == 0 && restarts) noMemory else before.memory
        return using("encoder") { graph, feed ->
            feed.ints("history", history, items.toLong(), spec.levels.toLong())
            feed.floats("past", past)
            graph.run(feed.tensors, ENCODED).use { State(count + items, copied(it, HIDDEN), copied(it, PRESENT)) }
        }
    }

    /** The best leaves after a state. `bias`: by node of the trie, or null. */
    fun searchFrom(state: State, trie: ItemTrie, excluded: IntArray, beam: Int, bias: FloatArray?): Found {
        if (trie.size == 0) return Found.NOTHING
        return using("search") { graph, feed ->
            val inputs = graph.inputNames
            if (bias != null && BIAS !in inputs) {
                throw BundleException(
                    "this bundle's search graph is from before score biases existed; export the bundle again",
                )
            }
            if (HIDDEN in inputs) feed.floats(HIDDEN, state.hidden)
            if (PRESENT in inputs) feed.floats(PRESENT, state.memory)
            if (BIAS in inputs) {
                val values = bias ?: FloatArray(1)
                feed.floats(BIAS, Floats(FloatBuffer.wrap(values), longArrayOf(values.size.toLong())))
            }
            results(graph, feed, trie, excluded, beam, bias)
        }
    }

    private fun results(
        graph: OrtSession, feed: Feed, trie: ItemTrie, excluded: IntArray, beam: Int, bias: FloatArray?,
    ): Found {
        feed.shared(tensors.of(trie.nodes))
        feed.ints("exclude", IntBuffer.wrap(excluded), excluded.size.toLong())
        feed.long("beam", beam.toLong())
        return graph.run(feed.tensors, RESULTS).use { result ->
            val rows = result.get(ROWS).get() as OnnxTensor
            val scores = result.get(SCORES).get() as OnnxTensor
            Found.checkShapes(rows.info.shape, scores.info.shape)
            val first = trie.nodes.internal
            Found.validated(
                IntArray(rows.info.shape[0].toInt()).also { rows.intBuffer.get(it) },
                FloatArray(scores.info.shape[0].toInt()).also { scores.floatBuffer.get(it) },
                trie.size, excluded, if (bias == null) null else { leaf -> bias[first + leaf] },
            )
        }
    }

    private fun copied(result: OrtSession.Result, name: String): Floats {
        val tensor = result.get(name).get() as OnnxTensor
        val source = tensor.floatBuffer
        val copy = floats(source.remaining())
        copy.put(source)
        copy.rewind()
        return Floats(copy, tensor.info.shape)
    }

    private fun <T> using(role: String, use: (OrtSession, Feed) -> T): T {
        closeForgotten()
        val ready = lock.read { role in graphs }
        if (!ready) lock.write { if (role !in graphs) open(role) }
        try {
            return lock.read { Feed().use { feed -> use(graphs[role] ?: throw closedError(), feed) } }
        } catch (error: OrtException) {
            throw BundleException(
                "ONNX Runtime cannot run the bundle's graph (${oneLine(error)}); export the bundle again", error,
            )
        }
    }

    /** Closes the tensors of tries that are not reachable any more, while no graph runs. */
    private fun closeForgotten() {
        val first = tensors.nextForgotten() ?: return
        lock.write { generateSequence(first) { tensors.nextForgotten() }.forEach(tensors::close) }
    }

    private fun open(role: String) {
        if (closed) throw closedError()
        val path = bundle.graph(role)
        val graph = openGraph(path, bundle.manifest.files.mapValues { it.value.bytes }, threads)
        try {
            checkPorts(graph, if (role == "encoder") ENCODED else RESULTS, path.name)
            bundle.checkUnchanged() // the graph, and the weights that ONNX Runtime read itself
        } catch (error: PocketRecException) {
            graph.close()
            throw error
        }
        graphs[role] = graph
    }

    override fun close() = lock.write {
        closed = true
        tensors.close()
        graphs.values.forEach { it.close() }
        graphs.clear()
    }
}

internal fun floats(size: Int): FloatBuffer =
    ByteBuffer.allocateDirect(4 * size).order(ByteOrder.nativeOrder()).asFloatBuffer()

internal fun ints(size: Int): IntBuffer =
    ByteBuffer.allocateDirect(4 * size).order(ByteOrder.nativeOrder()).asIntBuffer()

/** The inputs of one call. Closing it closes them, except those of the trie, which are shared with other calls. */
private class Feed : AutoCloseable {
    val tensors = HashMap<String, OnnxTensor>()
    private val own = ArrayList<OnnxTensor>()

    fun shared(trie: TrieTensors) {
        tensors["first_child"] = trie.firstChild
        tensors["codes"] = trie.codes
    }

    fun ints(name: String, values: IntBuffer, vararg shape: Long) =
        put(name, OnnxTensor.createTensor(ENVIRONMENT, values, shape))

    fun floats(name: String, values: Floats) =
        put(name, OnnxTensor.createTensor(ENVIRONMENT, values.values.duplicate(), values.shape))

    fun long(name: String, value: Long) =
        put(name, OnnxTensor.createTensor(ENVIRONMENT, LongBuffer.wrap(longArrayOf(value)), longArrayOf(1)))

    private fun put(name: String, tensor: OnnxTensor) {
        own.add(tensor)
        tensors[name] = tensor
    }

    override fun close() = own.forEach { it.close() }
}
