package dev.pocketrec.sync

import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File
import java.time.Clock
import java.time.Instant
import java.time.ZoneOffset

/** The statements of docs/decisions/0016 about sigstore-java. If one fails after an update, revise the decision. */
class SigstoreTest : InWorld() {
    private val repo by lazy { File(folder, "repo").also { Vectors.repo.copyRecursively(it) } }
    private val served = lazy { TestServer(repo) }
    private val server by served
    private val longAfter = Clock.fixed(Instant.parse("2200-01-01T00:00:00Z"), ZoneOffset.UTC)

    @AfterEach fun stopServing() {
        if (served.isInitialized()) server.close()
    }

    /** Replaces the published metadata by the one with `sigstore` fields. */
    private fun mark() {
        File(repo, "metadata").deleteRecursively()
        File(Vectors.root, "marked/metadata").copyRecursively(File(repo, "metadata"))
    }

    private fun signed(clock: Clock = Clock.systemUTC()) =
        SigstoreTargets(server.url, File(repo, "metadata/1.root.json").readText(), File(folder, "trust"), clock)

    private fun damage(name: String, old: String, new: String) {
        val file = File(repo, "metadata/$name")
        val text = file.readText()
        assertTrue(old in text)
        file.writeText(text.replace(old, new))
    }

    @Test fun `a published repository is refused, only because of its custom data`() {
        val published = signed()
        val error = assertThrows(TrustException::class.java) { published.refresh() }
        assertTrue(error.message!!.contains("sigstoreMeta"))
    }

    @Test fun `with sigstore fields, a device follows signed releases from end to end`() {
        mark()
        val client = world.client(targets = signed())
        assertEquals(3, client.refresh().release)
        assertEquals(How.UNCHANGED, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `with sigstore fields, the signed targets are returned`() {
        mark()
        val published = world.signed.refresh().associateBy { it.path }
        for (target in signed().refresh()) {
            val info = if (target.custom == null) null else parseInfo(target.path, target.custom)
            val same = published.getValue(target.path)
            assertEquals(same.length to same.sha256, target.length to target.sha256)
            assertEquals(same.custom?.let { parseInfo(same.path, it) }, info)
        }
    }

    @Test fun `changed metadata is refused`() {
        for ((name, old, new) in listOf(
            Triple("4.targets.json", "\"per_million\":1000000", "\"per_million\":1000001"),
            Triple("timestamp.json", "\"version\":4", "\"version\":9"),
            Triple("1.root.json", "\"consistent_snapshot\":true", "\"consistent_snapshot\":false"),
        )) {
            mark()
            File(folder, "trust").deleteRecursively()
            damage(name, old, new)
            assertThrows(TrustException::class.java, { signed().refresh() }, name)
        }
    }

    @Test fun `older metadata is refused`() {
        mark()
        signed().refresh()
        val older = File(Vectors.root, "marked/metadata/3.targets.json")
        older.copyTo(File(repo, "metadata/4.targets.json"), overwrite = true)
        File(folder, "trust/timestamp.json").delete()
        assertThrows(TrustException::class.java) { signed().refresh() }
    }

    @Test fun `expired metadata is refused, even if nothing is new`() {
        mark()
        assertThrows(TrustException::class.java) { signed(longAfter).refresh() }
        signed().refresh()
        assertThrows(TrustException::class.java) { signed(longAfter).refresh() }
    }
}
