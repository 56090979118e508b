package dev.pocketrec.sync

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** The rules of releases, the same as in Python. */
class ReleaseTest {
    private val path = "stable/7/manifest.json"
    private val fields = mapOf(
        "schema" to "1",
        "channel" to "\"stable\"",
        "release" to "7",
        "model" to "\"${"a".repeat(64)}\"",
        "sid_space" to "\"0\"",
        "minimum_runtime" to "\"0.3\"",
        "per_million" to "50000",
    )

    private fun custom(vararg other: Pair<String, String>) =
        (fields + other).entries
            .joinToString(",", "{\"pocketrec\":{", "},\"others\":1}") { "\"${it.key}\":${it.value}" }

    @Test fun `shares are the same as in Python`() {
        for ((device, release, share, allows) in Vectors.cases("shares").map { it.toList() }) {
            val info = ReleaseInfo("stable", release.asLong, "", "", "0", share.asLong)
            assertEquals(allows.asBoolean, info.allows(device.asString), "$device/$release at $share")
        }
    }

    @Test fun `versions compare the same as in Python`() {
        for ((least, have, opens) in Vectors.cases("runtimes").map { it.toList() }) {
            assertEquals(opens.asBoolean, runtimeOpens(least.asString, have.asString), "$least for $have")
        }
    }

    @Test fun `release data is read`() {
        assertEquals(ReleaseInfo("stable", 7, "a".repeat(64), "0", "0.3", 50_000), parseInfo(path, custom()))
    }

    @Test fun `invalid release data is refused, and the error names the target`() {
        val invalid = listOf(
            "schema" to "2", "schema" to "true", "channel" to "\"beta\"", "release" to "8", "release" to "\"7\"",
            "model" to "\"a\"", "model" to "3", "sid_space" to "\"\"", "sid_space" to "null",
            "minimum_runtime" to "\"1.x\"", "minimum_runtime" to "1", "per_million" to "1000001", "per_million" to "-1",
            "per_million" to "0.5", "per_million" to "true", "per_million" to "1e3",
        )
        for (field in invalid) {
            val error = assertThrows(SyncException::class.java, { parseInfo(path, custom(field)) }, field.toString())
            assertTrue(error.message!!.startsWith(path))
        }
        for (text in listOf(null, "", "{", "[]", "{}", "{\"pocketrec\": 1}")) {
            assertThrows(SyncException::class.java) { parseInfo(path, text) }
        }
    }

    @Test fun `only names of the right form are parsed`() {
        assertEquals(TargetName("stable", 7, "manifest.json"), splitPath(path))
        val invalid = listOf(
            "", "stable/7", "stable/07/a", "stable/0/a", "Stable/7/a", "stable/7/a/b", "stable/7/..", "stable/7/.a",
            "stable/7/", "stable/9999999999999999/a", "../7/a", "stable/-1/a", "stable/7/a\n",
        )
        for (name in invalid) assertNull(splitPath(name), name)
    }

    @Test fun `in a URL the hash comes before the file name`() {
        assertEquals("https://x/repo/targets/stable/7/ab.f", TargetInfo.address("https://x/repo/", "stable/7/f", "ab"))
        assertEquals("https://x/targets/ab.f", TargetInfo.address("https://x", "f", "ab"))
    }
}
