package dev.pocketrec

import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtSession
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.FloatBuffer
import java.nio.IntBuffer
import java.nio.LongBuffer
import java.util.concurrent.locks.ReentrantReadWriteLock
import kotlin.concurrent.read
import kotlin.concurrent.write

/** What a model has read: how many items, its last hidden state, and keys and values. It never changes. */
internal class State(val items: Int, val hidden: Floats, val memory: Floats)

/** Numbers with their shape, outside the heap. */
internal class Floats(val values: FloatBuffer, val shape: LongArray)

/**
 * Runs a bundle's ONNX graphs; the beam search is in them. Calls from several threads at once are safe, and closing
 * waits for those that run. Each graph is opened when it is first needed.
 */
internal class Engine(private val bundle: Bundle, private val threads: Int) : AutoCloseable {
    private val spec = bundle.manifest.model
    private val restarts = spec.kind == TOKENS_KIND && spec.prompt == 0 // a start token is read for nothing at all
    private val nothing = Floats(
        floats(0), longArrayOf(spec.layers.toLong(), 2, spec.kvHeads.toLong(), 0, spec.headDim.toLong()),
    )
    private val lock = ReentrantReadWriteLock() // reading: a graph runs; writing: one is opened, or memory is let go of
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

    /** The best leaves after a history of semantic IDs [n, levels], at most `beam` of them. */
    fun search(history: IntBuffer, items: Int, trie: ItemTrie, exclude: IntArray, beam: Int): Found {
        if (trie.size == 0) return Found.NOTHING
        return using("recommender") { graph, feed ->
            feed.ints("history", history, items.toLong(), spec.levels.toLong())
            answer(graph, feed, trie, exclude, beam, null)
        }
    }

    /** Reads a history, or goes on with one at the cost of the new items. */
    fun read(history: IntBuffer, items: Int, before: State?): State {
        if (before != null && items == 0) return before
        val count = before?.items ?: 0
        val past = if (before == null || count == 0 && restarts) nothing else before.memory
        return using("encoder") { graph, feed ->
            feed.ints("history", history, items.toLong(), spec.levels.toLong())
            feed.floats("past", past)
            graph.run(feed.tensors, ENCODED).use { State(count + items, copied(it, HIDDEN), copied(it, PRESENT)) }
        }
    }

    /** The best leaves after what was read. `bias`: by node of the trie, or null. */
    fun searchFrom(state: State, trie: ItemTrie, exclude: IntArray, beam: Int, bias: FloatArray?): Found {
        if (trie.size == 0) return Found.NOTHING
        return using("search") { graph, feed ->
            val takes = graph.inputNames
            if (bias != null && BIAS !in takes) {
                throw BundleException(
                    "this bundle's search graph is of a time before score biases; export the bundle again",
                )
            }
            if (HIDDEN in takes) feed.floats(HIDDEN, state.hidden)
            if (PRESENT in takes) feed.floats(PRESENT, state.memory)
            if (BIAS in takes) {
                val values = bias ?: FloatArray(1)
                feed.floats(BIAS, Floats(FloatBuffer.wrap(values), longArrayOf(values.size.toLong())))
            }
            answer(graph, feed, trie, exclude, beam, bias)
        }
    }

    private fun answer(
        graph: OrtSession, feed: Feed, trie: ItemTrie, exclude: IntArray, beam: Int, bias: FloatArray?,
    ): Found {
        feed.shared(tensors.of(trie.nodes))
        feed.ints("exclude", IntBuffer.wrap(exclude), exclude.size.toLong())
        feed.long("beam", beam.toLong())
        return graph.run(feed.tensors, RESULTS).use { result ->
            val rows = result.get(ROWS).get() as OnnxTensor
            val scores = result.get(SCORES).get() as OnnxTensor
            Found.checkShapes(rows.info.shape, scores.info.shape)
            val first = trie.nodes.internal
            Found.sound(
                IntArray(rows.info.shape[0].toInt()).also { rows.intBuffer.get(it) },
                FloatArray(scores.info.shape[0].toInt()).also { scores.floatBuffer.get(it) },
                trie.size, exclude, if (bias == null) null else { leaf -> bias[first + leaf] },
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
        forgetTries()
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

    /** Lets go of the tensors of tries that nobody has any more, while no graph runs. */
    private fun forgetTries() {
        val first = tensors.nextForgotten() ?: return
        lock.write { generateSequence(first) { tensors.nextForgotten() }.forEach(tensors::drop) }
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

internal fun closedError() = ConfigException("this recommender was closed; load it again")

internal fun floats(size: Int): FloatBuffer =
    ByteBuffer.allocateDirect(4 * size).order(ByteOrder.nativeOrder()).asFloatBuffer()

internal fun ints(size: Int): IntBuffer =
    ByteBuffer.allocateDirect(4 * size).order(ByteOrder.nativeOrder()).asIntBuffer()

/** The inputs of one call, let go of together; those of the trie are shared with other calls. */
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
