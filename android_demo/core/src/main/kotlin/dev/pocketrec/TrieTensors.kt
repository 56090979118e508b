package dev.pocketrec

import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtSession
import java.lang.ref.Reference
import java.lang.ref.ReferenceQueue
import java.lang.ref.WeakReference

/** The tensors of a trie. They use the trie's own buffers, except for wide codes, which are copied. */
internal class TrieTensors(
    val firstChild: OnnxTensor, val codes: OnnxTensor, private val made: List<AutoCloseable>,
) : AutoCloseable {
    override fun close() = made.forEach { it.close() }
}

/**
 * The tensors of the tries that an engine has searched: made once for each trie, closed when the trie is not reachable
 * any more. Any number of threads may call [of]; no graph may run during [close].
 */
internal class TensorShelf : AutoCloseable {
    private class Held(nodes: Nodes, val tensors: TrieTensors, forgotten: ReferenceQueue<Nodes>) :
        WeakReference<Nodes>(nodes, forgotten)

    private val forgotten = ReferenceQueue<Nodes>()
    private val held = HashSet<Held>()

    /** ONNX Runtime's Java API cannot make uint16 tensors, but a graph with one Cast can. */
    private val toUnsigned = lazy { ENVIRONMENT.createSession(CAST_TO_UINT16) }

    fun of(nodes: Nodes): TrieTensors = nodes.tensors ?: synchronized(this) {
        nodes.tensors ?: make(nodes).also {
            held.add(Held(nodes, it, forgotten))
            nodes.tensors = it
        }
    }

    /** A trie that is not reachable any more, to be given to [close]; null if there is none. */
    fun nextForgotten(): Reference<out Nodes>? = forgotten.poll()

    @Synchronized
    fun close(reference: Reference<out Nodes>) {
        val gone = reference as Held
        if (held.remove(gone)) gone.tensors.close()
    }

    @Synchronized
    override fun close() {
        held.forEach { it.tensors.close() }
        held.clear()
        if (toUnsigned.isInitialized()) toUnsigned.value.close()
    }

    private fun make(nodes: Nodes): TrieTensors {
        val first = OnnxTensor.createTensor(
            ENVIRONMENT, nodes.firstChild.duplicate(), longArrayOf(nodes.firstChild.capacity().toLong()),
        )
        val shape = longArrayOf(nodes.count.toLong())
        if (!nodes.wide) {
            val codes = OnnxTensor.createTensor(ENVIRONMENT, nodes.codes.duplicate(), shape, OnnxJavaType.UINT8)
            return TrieTensors(first, codes, listOf(first, codes))
        }
        val result: OrtSession.Result = OnnxTensor.createTensor(ENVIRONMENT, nodes.wideCodes(), shape).use {
            toUnsigned.value.run(mapOf("x" to it))
        }
        return TrieTensors(first, result.get(0) as OnnxTensor, listOf(first, result))
    }
}

/** An ONNX graph with one node, Cast from int16 to uint16, which keeps the bits. Input x [n], output y [n]. */
private val CAST_TO_UINT16: ByteArray = (
    "080812003a400a170a01781201792204436173742a090a02746f1804a001021201635a100a0178120b0a09080512050a0312016e" +
        "62100a0179120b0a09080412050a0312016e42040a001011"
    ).chunked(2).map { it.toInt(16).toByte() }.toByteArray()
