package dev.pocketrec

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import ai.onnxruntime.TensorInfo.OnnxTensorType
import java.io.File
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
 * Runs a bundle's ONNX graphs; the beam search is in them. Calls from several threads at once are safe, and closing waits
 * for those that run. Each graph is opened when it is first needed.
 */
internal class Engine(private val bundle: Bundle, private val threads: Int) : AutoCloseable {
    private val environment = OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, "pocketrec").also {
        it.setTelemetry(false)
    }
    private val spec = bundle.manifest.model
    private val restarts = spec.kind == TOKENS_KIND && spec.prompt == 0 // a start token is read for nothing at all
    private val nothing = Floats(
        floats(0), longArrayOf(spec.layers.toLong(), 2, spec.kvHeads.toLong(), 0, spec.headDim.toLong()),
    )
    private val graphs = HashMap<String, OrtSession>()
    private val lock = ReentrantReadWriteLock()
    private var closed = false

    /** ONNX Runtime's Java has no 16-bit unsigned input, but passes on what a graph of one cast makes. */
    private val widener = lazy { environment.createSession(CAST_TO_UINT16) }

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
        return using("recommender") { graph ->
            Feed(environment).use { feed ->
                feed.ints("history", history, items.toLong(), spec.levels.toLong())
                answer(graph, feed, trie, exclude, beam, null)
            }
        }
    }

    /** Reads a history, or goes on with one at the cost of the new items. */
    fun read(history: IntBuffer, items: Int, before: State?): State {
        if (before != null && items == 0) return before
        val count = before?.items ?: 0
        val past = if (before == null || count == 0 && restarts) nothing else before.memory
        return using("encoder") { graph ->
            Feed(environment).use { feed ->
                feed.ints("history", history, items.toLong(), spec.levels.toLong())
                feed.floats("past", past)
                run(graph, feed) { State(count + items, copied(it, "hidden"), copied(it, "present")) }
            }
        }
    }

    /** The best leaves after what was read. `bias`: by node of the trie, or null. */
    fun searchFrom(state: State, trie: ItemTrie, exclude: IntArray, beam: Int, bias: FloatArray?): Found {
        if (trie.size == 0) return Found.NOTHING
        return using("search") { graph ->
            val takes = graph.inputNames
            if (bias != null && "bias" !in takes) {
                throw BundleException(
                    "this bundle's search graph is of a time before score biases; export the bundle again",
                )
            }
            Feed(environment).use { feed ->
                if ("hidden" in takes) feed.floats("hidden", state.hidden)
                if ("present" in takes) feed.floats("present", state.memory)
                if ("bias" in takes) {
                    val values = bias ?: FloatArray(1)
                    feed.floats("bias", Floats(FloatBuffer.wrap(values), longArrayOf(values.size.toLong())))
                }
                answer(graph, feed, trie, exclude, beam, bias)
            }
        }
    }

    private fun answer(
        graph: OrtSession, feed: Feed, trie: ItemTrie, exclude: IntArray, beam: Int, bias: FloatArray?,
    ): Found {
        val nodes = trie.nodes
        feed.ints("first_child", nodes.firstChild.duplicate(), nodes.firstChild.capacity().toLong())
        if (trie.file.codes.wide) feed.wide("codes", nodes, widener.value) else feed.bytes("codes", nodes.codes.duplicate())
        feed.ints("exclude", IntBuffer.wrap(exclude), exclude.size.toLong())
        feed.long("beam", beam.toLong())
        return run(graph, feed) { result ->
            val rows = (result.get("rows").get() as OnnxTensor).intBuffer
            val scores = (result.get("scores").get() as OnnxTensor).floatBuffer
            val listed = IntArray(rows.remaining()).also { rows.get(it) }
            val values = FloatArray(scores.remaining()).also { scores.get(it) }
            val largest: ((Int) -> Float)? = bias?.let { { leaf -> it[nodes.internal + leaf] } }
            Found.sound(listed, values, trie.size, exclude.toHashSet(), largest)
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

    private fun <T> run(graph: OrtSession, feed: Feed, use: (OrtSession.Result) -> T): T {
        try {
            return graph.run(feed.tensors).use(use)
        } catch (error: OrtException) {
            throw BundleException(
                "ONNX Runtime cannot run the bundle's graph (${oneLine(error)}); export the bundle again", error,
            )
        }
    }

    private fun <T> using(role: String, use: (OrtSession) -> T): T {
        lock.read { graphs[role]?.let { return use(it) } }
        lock.write { if (role !in graphs) open(role) }
        return lock.read { use(graphs[role] ?: throw closedError()) }
    }

    private fun open(role: String) {
        if (closed) throw closedError()
        val path = bundle.graph(role)
        graphs[role] = openGraph(environment, path, bundle.manifest.files.mapValues { it.value.bytes }, threads)
        try {
            checkPorts(graphs.getValue(role), if (role == "encoder") ENCODED else RESULTS, path.name)
            bundle.checkUnchanged() // the graph, and the weights that ONNX Runtime read itself
        } catch (error: PocketRecException) {
            graphs.remove(role)?.close()
            throw error
        }
    }

    override fun close() = lock.write {
        closed = true
        graphs.values.forEach { it.close() }
        graphs.clear()
        if (widener.isInitialized()) widener.value.close()
    }
}

internal fun closedError() = ConfigException("this recommender was closed; load it again")

internal fun floats(size: Int): FloatBuffer =
    ByteBuffer.allocateDirect(4 * size).order(ByteOrder.nativeOrder()).asFloatBuffer()

internal fun ints(size: Int): IntBuffer =
    ByteBuffer.allocateDirect(4 * size).order(ByteOrder.nativeOrder()).asIntBuffer()

/** The inputs of one call, let go of together. */
private class Feed(private val environment: OrtEnvironment) : AutoCloseable {
    val tensors = HashMap<String, OnnxTensor>()
    private val made = ArrayList<AutoCloseable>()

    fun ints(name: String, values: IntBuffer, vararg shape: Long) =
        put(name, OnnxTensor.createTensor(environment, values, shape))

    fun floats(name: String, values: Floats) =
        put(name, OnnxTensor.createTensor(environment, values.values.duplicate(), values.shape))

    fun bytes(name: String, values: ByteBuffer) {
        val shape = longArrayOf(values.remaining().toLong())
        put(name, OnnxTensor.createTensor(environment, values, shape, OnnxJavaType.UINT8))
    }

    fun long(name: String, value: Long) =
        put(name, OnnxTensor.createTensor(environment, LongBuffer.wrap(longArrayOf(value)), longArrayOf(1)))

    fun wide(name: String, nodes: Nodes, widener: OrtSession) {
        val codes = nodes.codes.duplicate().order(ByteOrder.nativeOrder()).asIntBuffer()
        OnnxTensor.createTensor(environment, codes, longArrayOf(nodes.count.toLong())).use { given ->
            val result = widener.run(mapOf("x" to given))
            made.add(result)
            tensors[name] = result.get(0) as OnnxTensor
        }
    }

    private fun put(name: String, tensor: OnnxTensor) {
        made.add(tensor)
        tensors[name] = tensor
    }

    override fun close() = made.forEach { it.close() }
}

private val ENCODED = listOf("hidden", "present")
private val RESULTS = listOf("rows", "scores")
private val FLOAT = setOf(OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
private val INT32 = setOf(OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32)

/** What graphs may take and give: types, and how many dimensions. */
private val PORTS: Map<String, Pair<Set<OnnxTensorType>, Int>> = mapOf(
    "history" to Pair(INT32, 2), "past" to Pair(FLOAT, 5), "hidden" to Pair(FLOAT, 2), "present" to Pair(FLOAT, 5),
    "first_child" to Pair(INT32, 1), "exclude" to Pair(INT32, 1), "bias" to Pair(FLOAT, 1), "rows" to Pair(INT32, 1),
    "scores" to Pair(FLOAT, 1), "beam" to Pair(setOf(OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64), 1),
    "codes" to Pair(
        setOf(
            OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        ),
        1,
    ),
)

private fun checkPorts(graph: OrtSession, results: List<String>, file: String) {
    val outputs = graph.outputInfo
    for (port in graph.inputInfo.values + results.mapNotNull { outputs[it] }) {
        val known = PORTS[port.name]
        val info = port.info as? TensorInfo
        if (known == null || info == null || info.onnxType !in known.first || info.shape.size != known.second) {
            throw BundleException("$file has ${quote(port.name.take(60))} ${said(port)}; export the bundle again")
        }
    }
    for (name in results) {
        if (name !in outputs) throw BundleException("$file does not give ${quote(name)}; export the bundle again")
    }
}

private fun said(port: NodeInfo): String =
    (port.info as? TensorInfo)?.let { "${it.onnxType} ${it.shape.toList()}".take(80) } ?: "that is no tensor"

private fun openGraph(environment: OrtEnvironment, path: File, sizes: Map<String, Long>, threads: Int): OrtSession {
    try {
        GraphCheck.check(path, sizes)
    } catch (fault: Fault) {
        throw BundleException("${path.name} ${fault.message}; export the bundle again", fault)
    }
    try {
        return OrtSession.SessionOptions().use { options ->
            options.setIntraOpNumThreads(threads)
            options.setInterOpNumThreads(1)
            options.addConfigEntry("session.intra_op.allow_spinning", "0")
            options.addConfigEntry("session.load_model_format", "ONNX") // whatever its name ends with
            options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL)
            environment.createSession(path.path, options)
        }
    } catch (error: OrtException) {
        throw BundleException(
            "ONNX Runtime cannot open ${path.name} (${oneLine(error)}); export the bundle again", error,
        )
    }
}

/** A graph of one node, Cast from int32 to uint16: input x [n], output y [n]. */
private val CAST_TO_UINT16: ByteArray = (
    "080812003a400a170a01781201792204436173742a090a02746f1804a001021201635a100a0178120b0a09080612050a0312016e" +
        "62100a0179120b0a09080412050a0312016e42040a001011"
    ).chunked(2).map { it.toInt(16).toByte() }.toByteArray()
