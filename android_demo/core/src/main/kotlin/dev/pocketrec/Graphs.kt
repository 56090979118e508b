package dev.pocketrec

import ai.onnxruntime.NodeInfo
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtException
import ai.onnxruntime.OrtLoggingLevel
import ai.onnxruntime.OrtSession
import ai.onnxruntime.TensorInfo
import ai.onnxruntime.TensorInfo.OnnxTensorType
import dev.pocketrec.internal.Fault
import dev.pocketrec.internal.oneLine
import java.io.File

internal const val HIDDEN = "hidden"
internal const val PRESENT = "present"
internal const val BIAS = "bias"
internal const val ROWS = "rows"
internal const val SCORES = "scores"
internal val ENCODED = setOf(HIDDEN, PRESENT)
internal val RESULTS = setOf(ROWS, SCORES)

/** ONNX Runtime, once for the process. Errors are thrown, not logged; telemetry is off. */
internal val ENVIRONMENT: OrtEnvironment by lazy {
    OrtEnvironment.getEnvironment(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL, "pocketrec").also { it.setTelemetry(false) }
}

private val FLOAT = setOf(OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT)
private val INT32 = setOf(OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32)
private val INT64 = setOf(OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64)
private val CODES =
    setOf(OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8, OnnxTensorType.ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16)

/** Inputs and outputs that a graph may have: types and number of dimensions. */
private val PORTS: Map<String, Pair<Set<OnnxTensorType>, Int>> = mapOf(
    "history" to Pair(INT32, 2), "past" to Pair(FLOAT, 5), HIDDEN to Pair(FLOAT, 2), PRESENT to Pair(FLOAT, 5),
    "first_child" to Pair(INT32, 1), "codes" to Pair(CODES, 1), "exclude" to Pair(INT32, 1), "beam" to Pair(INT64, 1),
    BIAS to Pair(FLOAT, 1), ROWS to Pair(INT32, 1), SCORES to Pair(FLOAT, 1),
)

/** Refuses a graph with an unknown input, or without a result that is needed. */
internal fun checkPorts(graph: OrtSession, results: Set<String>, file: String) {
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

/**
 * Opens a graph with few threads that do not spin, to save the battery.
 *
 * @param sizes size of the files that may hold its weights, by name
 */
internal fun openGraph(path: File, sizes: Map<String, Long>, threads: Int): OrtSession {
    try {
        OnnxCheck.check(path, sizes)
    } catch (fault: Fault) {
        throw BundleException("${path.name} ${fault.message}; export the bundle again", fault)
    }
    try {
        return OrtSession.SessionOptions().use { options ->
            options.setIntraOpNumThreads(threads)
            options.setInterOpNumThreads(1)
            options.addConfigEntry("session.intra_op.allow_spinning", "0")
            options.addConfigEntry("session.load_model_format", "ONNX") // whatever the file extension
            options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL)
            ENVIRONMENT.createSession(path.path, options)
        }
    } catch (error: OrtException) {
        throw BundleException(
            "ONNX Runtime cannot open ${path.name} (${oneLine(error)}); export the bundle again", error,
        )
    }
}
