package dev.pocketrec

import dev.pocketrec.internal.StrictJson
import java.io.File

/**
 * Measures latency, or recommends for a comparison with other runtimes. Run it from the class path of the tests (see
 * the module's README):
 *
 *     bench BUNDLE CALLS          p50 and p95 of a call in milliseconds, as JSON
 *     recommend BUNDLE FILE       ten ids for each history of FILE (JSON, a list of lists of ids), as JSON
 */
fun main(arguments: Array<String>) {
    val (what, bundle, more) = arguments
    Recommender.load(File(bundle)).use { recommender ->
        println(if (what == "bench") bench(recommender, more.toInt()) else recommend(recommender, File(more)))
    }
}

private fun bench(recommender: Recommender, calls: Int): String {
    val random = java.util.Random(0)
    val histories = List(200) { List(20) { recommender.trie.item(random.nextInt(recommender.trie.size)).itemId } }
    val times = DoubleArray(calls)
    repeat(1000) { recommender.recommend(histories[it % histories.size]) } // until the JVM has compiled it
    for (call in 0 until calls) {
        val begun = System.nanoTime()
        recommender.recommend(histories[call % histories.size])
        times[call] = (System.nanoTime() - begun) / 1e6
    }
    times.sort()
    return """{"p50_ms": ${times[calls / 2]}, "p95_ms": ${times[calls * 95 / 100]}, "calls": $calls}"""
}

private fun recommend(recommender: Recommender, file: File): String {
    val histories = Vectors.list(StrictJson.parse(file.readBytes())).map(Vectors::strings)
    return StrictJson.write(histories.map { history -> recommender.recommend(history).map { it.itemId } })
}
