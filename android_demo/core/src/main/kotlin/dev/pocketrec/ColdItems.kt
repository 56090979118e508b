package dev.pocketrec

import dev.pocketrec.internal.Fault
import java.io.File
import java.nio.ByteBuffer
import java.util.TreeMap
import kotlin.math.exp
import kotlin.math.ln
import kotlin.math.pow

private const val FORMAT = "pocketrec.cold-items"
private const val VERSION = "1"
private const val FROM_FOUND = 0.25 // share of a found item's probability that goes to its cold neighbours
private val FROM_RECENT = listOf(0.025, 0.0125, 0.00625) // probability for cold neighbours of the last history items
private const val AGAIN = "fetch the bundle again or refresh the catalogue again"
private val TYPES = mapOf("items" to "I32", "counts" to "U8", "neighbours" to "I32", "weights" to "F16")

/**
 * Cold items: items that the model has never seen in training. Each scores a share of the scores of similar items, its
 * neighbours. All items are table rows.
 */
internal class ColdItems private constructor(private val byNeighbour: Map<Int, List<Share>>) {
    private class Share(val item: Int, val weight: Float)

    /**
     * Cold items, ascending, and their log-probabilities.
     *
     * @param recent the last history items, newest first
     * @param found items from the search, with their log-probabilities in `scores`
     */
    fun scored(recent: List<Int>, found: List<Int>, scores: List<Float>): Map<Int, Float> {
        val totals = TreeMap<Int, Double>() // probabilities
        fun share(neighbour: Int, probability: Double) {
            for (share in byNeighbour[neighbour].orEmpty()) {
                totals[share.item] = (totals[share.item] ?: 0.0) + probability * share.weight
            }
        }
        for ((row, probability) in recent.zip(FROM_RECENT)) share(row, probability)
        for ((row, score) in found.zip(scores)) share(row, FROM_FOUND * exp(score.toDouble()))
        return totals.mapValues { ln(maxOf(it.value, 1e-38)).toFloat() }
    }

    companion object {
        /** Number of last history items whose cold neighbours score. */
        const val RECENT = 3

        fun open(file: File, items: Int): ColdItems {
            val content = try {
                SafetensorsFile.open(file)
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
                        "${quote(FORMAT)}, ${quote(VERSION)}; update pocketrec or refresh the catalogue again",
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
                    if (neighbour !in 0 until n) throw Fault("it names a neighbour that is not in the catalogue")
                    if (!(weight > 0f && weight <= 1f)) throw Fault("it has a weight that is not above 0 and at most 1")
                    out.getOrPut(neighbour) { ArrayList() }.add(Share(item, weight))
                }
            }
            return ColdItems(out)
        }

        /** The float16 number (IEEE 754 binary16) at an index. */
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
