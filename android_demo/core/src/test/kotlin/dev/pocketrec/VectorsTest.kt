package dev.pocketrec

import dev.pocketrec.Vectors.int
import dev.pocketrec.Vectors.list
import dev.pocketrec.Vectors.map
import dev.pocketrec.Vectors.number
import dev.pocketrec.Vectors.strings
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.io.TempDir
import java.io.File

/** The shared vectors hold: the same lists and the same refusals as in Python. */
class VectorsTest {
    private fun tests(kind: String, check: (Map<String, Any?>) -> Unit): List<DynamicTest> =
        Vectors.cases(kind).map { case -> DynamicTest.dynamicTest(case["name"] as String) { check(case) } }

    @TestFactory
    fun answers() = tests("answers") { case ->
        val found = recommend(open(case["bundle"]), case)
        same(case["expected"], found)
        assertEquals(case["unknown"], found.unknown)
    }

    @TestFactory
    fun sessions() = tests("sessions") { case ->
        val recommender = open(case["bundle"])
        val session = recommender.session()
        for (step in list(case["steps"]).map(::map)) {
            if ("observe" in step) {
                assertEquals(step["known"], session.observe(step["observe"] as String))
            } else {
                val call = map(step["recommend"])
                val within = call["within"]?.let { recommender.trie.filterIds(strings(it)) }
                same(step["expected"], session.recommend(int(call["k"]), call["exclude_seen"] as Boolean, within))
            }
        }
        assertEquals(case["saved"], String(session.toBytes(), Charsets.UTF_8))
        val restored = recommender.restoreSession((case["saved"] as String).toByteArray())
        assertEquals(session.history, restored.history)
        assertFalse(restored.renewed)
        assertEquals(session.recommend(5).map { it.itemId }, restored.recommend(5).map { it.itemId })
    }

    @TestFactory
    fun swaps() = tests("swaps") { case ->
        val history = strings(case["history"])
        LiveRecommender(Recommender.load(Vectors.bundle(case["from"]))).use { live ->
            val session = live.session(history)
            same(case["before"], live.recommend(history))
            same(case["before"], session.recommend())
            assertEquals(case["unknown_before"], live.recommend(history).unknown)
            live.swap(Recommender.load(Vectors.bundle(case["to"])))
            same(case["after"], live.recommend(history))
            same(case["after"], session.recommend())
            assertEquals(case["unknown_after"], session.unknown)
        }
    }

    @TestFactory
    fun explanations() = tests("explanations") { case ->
        val why = open(case["bundle"]).explain(strings(case["history"]), case["item"] as String)
        assertEquals(number(case["score"]).toFloat(), why.score, Vectors.tolerance)
        val changes = list(case["history_changes"]).map(::list)
        assertEquals(changes.map { it[0] }, why.history.map { it.itemId })
        assertArrayEquals(
            FloatArray(changes.size) { number(changes[it][1]).toFloat() },
            FloatArray(changes.size) { why.history[it].change },
            2 * Vectors.tolerance,
        )
    }

    @TestFactory
    fun refusals(@TempDir folder: File) = tests("refusals") { case ->
        val bundle = File(folder, (case["name"] as String).replace(Regex("[^a-z]"), "-"))
        Vectors.bundle(case["bundle"]).copyRecursively(bundle)
        case["overlay"]?.let { File(Vectors.folder, it as String).copyRecursively(bundle, overwrite = true) }
        for (name in strings(case["remove"])) assertTrue(File(bundle, name).delete())
        refused(case) { Recommender.load(bundle).use { it.recommend(emptyList()) } }
    }

    @TestFactory
    fun sessionRefusals() = tests("session_refusals") { case ->
        refused(case) { open(case["bundle"]).restoreSession((case["saved"] as String).toByteArray()) }
    }

    @TestFactory
    fun argumentRefusals() = tests("argument_refusals") { case ->
        refused(case) { recommend(open(case["bundle"]), map(case["call"])) }
    }

    private fun recommend(recommender: Recommender, call: Map<String, Any?>): Recommendations {
        val within = call["within"]?.let { recommender.trie.filterIds(strings(it)) }
        val control = call["control"]?.let { control(recommender, map(it), within) }
        return recommender.recommend(
            strings(call["history"]),
            call["k"]?.let(::int) ?: 10,
            call["exclude_seen"] as Boolean? ?: true,
            if (control == null) within else null,
            call["beam"]?.let(::int),
            control,
        )
    }

    private fun control(recommender: Recommender, filters: Map<String, Any?>, within: ItemTrie?) = recommender.control(
        allow = filters["allow"]?.let(::strings),
        deny = filters["deny"]?.let(::strings).orEmpty(),
        within = within,
        bias = filters["bias"]?.let { bias -> map(bias).mapValues { number(it.value) } },
        minScore = filters["min_score"]?.let(::number),
        diversity = filters["diversity"]?.let(::number) ?: 0.0,
    )

    private fun same(expected: Any?, found: Recommendations) {
        val wanted = list(expected).map(::map)
        assertEquals(wanted.map { it["id"] }, found.map { it.itemId })
        assertEquals(wanted.map { it["title"] }, found.map { it.title })
        for ((item, known) in found.zip(wanted)) {
            assertEquals(number(known["score"]).toFloat(), item.score, Vectors.tolerance)
        }
    }

    private fun refused(case: Map<String, Any?>, action: () -> Unit) {
        val error = assertThrows(PocketRecException::class.java) { action() }
        assertEquals(case["error"], error.javaClass.simpleName.replace("Exception", "Error"))
        assertTrue(case["says"] as String in error.message!!, "${error.message} does not say ${case["says"]}")
        assertFalse('\n' in error.message!!)
    }

    companion object {
        private val opened = HashMap<Any?, Recommender>()

        private fun open(name: Any?) = opened.getOrPut(name) { Recommender.load(Vectors.bundle(name)) }

        @JvmStatic
        @AfterAll
        fun closeAll() = opened.values.forEach { it.close() }
    }
}
