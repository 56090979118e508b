package dev.pocketrec

import java.io.File
import java.nio.ByteBuffer
import java.util.TreeMap
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.pow

private const val FORMAT = "pocketrec.cold-items"
private const val VERSION = "1"
private const val FROM_FOUND = 0.25 // share of a recommended item's probability that those like it may get
private val FROM_RECENT = listOf(0.025, 0.0125, 0.00625) // what those like the last item get, like the one before, …
private const val AGAIN = "fetch the bundle again or refresh the catalogue anew"
private val TYPES = mapOf("items" to "I32", "counts" to "U8", "neighbours" to "I32", "weights" to "F16")

/** Items that nobody has interacted with score a share of what the items they resemble score. All are table rows. */
internal class ColdItems private constructor(private val of: Map<Int, List<Share>>) {
    private class Share(val item: Int, val weight: Float)

    /** New items, rising, and their log-probabilities. `recent`: the history's last items, the newest first. */
    fun scored(recent: List<Int>, found: List<Int>, scores: List<Float>): Map<Int, Float> {
        val gained = TreeMap<Int, Double>()
        fun pass(from: Int, worth: Double) {
            for (share in of[from].orEmpty()) gained[share.item] = (gained[share.item] ?: 0.0) + worth * share.weight
        }
        for ((row, worth) in recent.zip(FROM_RECENT)) pass(row, worth)
        for ((row, score) in found.zip(scores)) pass(row, FROM_FOUND * exp(score.toDouble()))
        return gained.mapValues { ln(maxOf(it.value, 1e-38)).toFloat() }
    }

    companion object {
        const val RECENT = 3

        fun open(file: File, items: Int): ColdItems {
            val content = try {
                TensorFile.open(file)
            } catch (fault: Fault) {
                throw BundleException(
                    "${file.name} is damaged or no safetensors file (${fault.message}); $AGAIN", fault,
                )
            }
            val meta = content.metadata
            if (meta["format"] != FORMAT || meta["version"] != VERSION) {
                fun said(name: String) = meta[name]?.let { quote(it).take(60) } ?: "None"
                throw BundleException(
                    "${file.name} has format ${said("format")}, version ${said("version")}, and this runtime reads " +
                        "${quote(FORMAT)}, ${quote(VERSION)}; update pocketrec or refresh the catalogue anew",
                )
            }
            if (content.tensors.keys != TYPES.keys) {
                throw BundleException("${file.name} has other tensors than ${TYPES.keys.joinToString()}; $AGAIN")
            }
            for ((name, type) in TYPES) {
                val tensor = content.tensors.getValue(name)
                if (tensor.type != type || tensor.shape.size != 1) {
                    throw BundleException("${file.name} has $name of ${tensor.type} ${tensor.shape}; $AGAIN")
                }
            }
            try {
                return of(content.tensors, items)
            } catch (fault: Fault) {
                throw BundleException("${file.name} is malformed (${fault.message}); $AGAIN", fault)
            }
        }

        private fun of(tensors: Map<String, Tensor>, n: Int): ColdItems {
            val (items, counts, neighbours, weights) = TYPES.keys.map { tensors.getValue(it) }
            var sum = 0L
            for (place in 0 until counts.shape[0]) sum += counts.bytes.get(place).toInt() and 0xFF
            val fit = items.shape == counts.shape && neighbours.shape == weights.shape
            if (!fit || sum != neighbours.shape[0].toLong()) {
                throw Fault("its tensors do not fit each other")
            }
            val out = HashMap<Int, ArrayList<Share>>()
            var (at, before) = Pair(0, -1)
            for (place in 0 until items.shape[0]) {
                val item = items.bytes.getInt(4 * place)
                if (item <= before || item >= n) throw Fault("its items are not rows of the catalogue, rising")
                before = item
                repeat(counts.bytes.get(place).toInt() and 0xFF) {
                    val neighbour = neighbours.bytes.getInt(4 * at)
                    val weight = half(weights.bytes, at++)
                    if (neighbour !in 0 until n) throw Fault("it names a neighbour that is no row of the catalogue")
                    if (!(weight > 0f && weight <= 1f)) throw Fault("it has a weight that is not above 0 and at most 1")
                    out.getOrPut(neighbour) { ArrayList() }.add(Share(item, weight))
                }
            }
            return ColdItems(out)
        }

        /** A number of two bytes (IEEE 754 binary16). */
        private fun half(bytes: ByteBuffer, place: Int): Float {
            val bits = bytes.getShort(2 * place).toInt() and 0xFFFF
            val exponent = bits ushr 10 and 31
            val fraction = bits and 1023
            val size = when (exponent) {
                0 -> fraction * 2f.pow(-24)
                31 -> if (fraction == 0) Float.POSITIVE_INFINITY else Float.NaN
                else -> (1024 + fraction) * 2f.pow(exponent - 25)
            }
            return if (bits and 0x8000 != 0) -size else size
        }
    }
}
