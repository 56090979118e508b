package dev.pocketrec.sync

import com.google.gson.JsonArray
import com.google.gson.JsonObject
import com.google.gson.JsonParser
import org.junit.jupiter.api.Assumptions.assumeTrue
import java.io.File
import java.util.concurrent.TimeUnit

/**
 * The vectors of sync: `tests/vectors/sync` of the repository, or, if that is missing, the same written by Python now.
 * Without either, tests that need them are skipped.
 */
object Vectors {
    private val module = File("").absoluteFile
    val root: File by lazy {
        val stored = File(System.getProperty("pocketrec.vectors", "../../tests/vectors"), "sync").canonicalFile
        if (File(stored, "expected.json").isFile) stored else written
    }
    private val written: File by lazy {
        val folder = File(module, "target/sync-vectors")
        if (!File(folder, "expected.json").isFile) {
            python(File(module, "src/test/python/make_sync_vectors.py").path, folder.path)
        }
        folder
    }
    val repo: File get() = File(root, "repo")
    val expected: JsonObject by lazy { JsonParser.parseString(File(root, "expected.json").readText()).asJsonObject }

    fun cases(name: String): List<JsonArray> = expected.getAsJsonArray(name).map { it.asJsonArray }

    fun items(release: Long): Set<String> = version(release).getAsJsonArray("items").map { it.asString }.toSet()

    fun name(release: Long): String = version(release).get("name").asString

    private fun version(release: Long) = expected.getAsJsonArray("versions")[release.toInt() - 1].asJsonObject

    /** Runs Python with pocketrec; returns its output. */
    fun python(vararg arguments: String): String {
        val name = System.getenv("POCKETREC_PYTHON") ?: "python3"
        assumeTrue(hasPocketrec(name), "set POCKETREC_PYTHON to a Python that has pocketrec[sync]")
        val process = ProcessBuilder(name, *arguments).redirectErrorStream(true).start()
        val output = process.inputStream.bufferedReader().readText()
        check(process.waitFor(5, TimeUnit.MINUTES) && process.exitValue() == 0) { output }
        return output
    }

    private fun hasPocketrec(name: String): Boolean =
        try {
            val check = ProcessBuilder(name, "-c", "import pocketrec.runtime.sync, tuf, zstandard")
            check.redirectErrorStream(true).start().also { it.inputStream.readBytes() }.waitFor() == 0
        } catch (_: java.io.IOException) {
            false
        }
}
