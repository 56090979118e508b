package dev.pocketrec

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

/** No class uses itself through other classes. (Files of one package need no imports, so classes are checked.) */
class ClassCyclesTest {
    /** For each class, the classes that it uses, by jdeps. Nested classes count as their outer class. */
    private fun uses(classes: File): Map<String, Set<String>> {
        val jdeps = File(System.getProperty("java.home"), "bin/jdeps").path
        val process = ProcessBuilder(jdeps, "-verbose:class", "-filter:none", classes.path).start()
        val edge = Regex(" +(dev\\.pocketrec\\.\\S+) +-> (dev\\.pocketrec\\.\\S+) .*")
        return process.inputStream.bufferedReader().readLines().mapNotNull(edge::matchEntire)
            .map { match -> match.destructured.let { (a, b) -> a.substringBefore('$') to b.substringBefore('$') } }
            .filter { (user, used) -> user != used }
            .groupBy({ it.first }, { it.second }).mapValues { it.value.toSet() }
    }

    /** The classes that a class uses directly or through others. */
    private fun reachable(from: String, uses: Map<String, Set<String>>): Set<String> {
        val out = HashSet<String>()
        fun visit(name: String): Unit = uses[name].orEmpty().forEach { if (out.add(it)) visit(it) }
        visit(from)
        return out
    }

    private fun inCycles(uses: Map<String, Set<String>>) = uses.keys.filter { it in reachable(it, uses) }.sorted()

    @Test
    fun `there is no cycle of classes`() {
        val uses = uses(File("target/classes").takeIf { it.isDirectory } ?: File("build/classes/kotlin/main"))
        assertTrue(uses.size > 20, "jdeps found ${uses.size} classes")
        assertEquals(emptyList<String>(), inCycles(uses), "after moving classes, build again with `mvn clean`")
    }

    @Test
    fun `a cycle is found`() {
        val uses = mapOf("A" to setOf("B"), "B" to setOf("C"), "C" to setOf("B", "D"))
        assertEquals(listOf("B", "C"), inCycles(uses))
    }
}
