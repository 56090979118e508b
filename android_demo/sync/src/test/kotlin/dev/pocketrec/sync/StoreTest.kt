package dev.pocketrec.sync

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Assumptions.assumeTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.io.File
import java.nio.file.Files
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import kotlin.concurrent.thread

/** The disk, kills and other writers: whatever they leave, the last good version recommends, and a refresh mends it. */
class StoreTest : InWorld() {
    private fun inStore(name: String) = File(world.store(), name)

    /** What a kill leaves at each step of a refresh; the bundle of the new version is taken from another store. */
    @ParameterizedTest(name = "{0}")
    @ValueSource(
        strings = [
            "half a download", "half a version", "a whole version without its name", "a version before the swap",
            "half a note",
        ],
    )
    fun `what a kill left is swept away and made good`(step: String) {
        world.behind(2)
        world.behind(3, "other")
        val whole = File(world.store("other"), "versions/${Vectors.name(3)}")
        val partial = inStore("versions/.${Vectors.name(3)}")
        when (step) {
            "half a download" -> world.signed.refresh().filter { it.path.startsWith("stable/3/") }
                .forEach { inStore("downloads/${it.sha256}.part").writeBytes(ByteArray(7)) }
            "half a version" -> File(partial.apply { mkdirs() }, "trie.safetensors").writeBytes(ByteArray(7))
            "a whole version without its name" -> whole.copyRecursively(partial)
            "a version before the swap" -> whole.copyRecursively(inStore("versions/${Vectors.name(3)}"))
            else -> inStore(".current.0123456789abcdef.tmp").writeText("{\"current\": \"sta")
        }
        assertEquals(2, world.recommended())
        world.client().refresh()
        assertEquals(3, world.recommended())
        assertEquals(setOf("versions", "downloads", "lock", "current", "state.json"), world.store().list()!!.toSet())
        assertEquals(setOf(Vectors.name(2), Vectors.name(3)), inStore("versions").list()!!.toSet())
    }

    @ParameterizedTest(name = "{index}")
    @ValueSource(
        strings = [
            "", "null", "[]", "{", "{\"current\": 3}", "{\"current\": \"../../x\"}",
            "{\"current\": \"stable-9-0123456789abcdef\"}",
        ],
    )
    fun `a damaged note of what is current loses nothing`(content: String) {
        world.behind(2)
        inStore("current").writeText(content)
        assertEquals(2, world.recommended())
        world.client().refresh()
        assertEquals(3, world.recommended())
    }

    @ParameterizedTest(name = "{index}")
    @ValueSource(strings = ["", "[1]", "{\"device\": 5, \"bad\": [], \"settled\": {}}", "{\"bad\": {\"a\": 1}}"])
    fun `a damaged memory begins anew`(content: String) {
        world.behind(2)
        inStore("state.json").writeText(content)
        assertEquals(3, world.client().refresh().release)
        val device = Store(world.store()).state().device
        assertEquals(32, device.length)
        assertEquals(device, Store(world.store()).state().device)
        assertEquals(3, world.recommended())
    }

    @Test fun `devices have ids of their own`() {
        world.behind(1, "a")
        world.behind(1, "b")
        assertNotEquals(Store(world.store("a")).state().device, Store(world.store("b")).state().device)
    }

    @Test fun `a disk that refuses is said, and what was there goes on`() {
        for (name in listOf("state.json", "current")) { // what a file should replace is a folder that is not empty
            val store = "store-$name"
            world.behind(2, store)
            val file = File(world.store(store), name)
            file.delete()
            File(file, "in the way").mkdirs()
            assertThrows(StoreException::class.java) { world.client(store).refresh() }
            file.deleteRecursively()
            world.client(store).refresh()
            assertEquals(3, world.recommended(store))
        }
    }

    @Test fun `a folder that cannot be written is said, and what was there goes on`() {
        world.behind(2)
        inStore("downloads").deleteRecursively()
        inStore("downloads").writeText("in the way")
        assertThrows(StoreException::class.java) { world.client().refresh() }
        assertEquals(2, world.recommended())
        val under = world.client(store = "store/current/under")
        assertThrows(StoreException::class.java) { under.refresh() }
    }

    @Test fun `a release without room is said before it is fetched`() {
        world.behind(2)
        val store = Store(world.store())
        assertThrows(StoreException::class.java) { store.roomFor(Long.MAX_VALUE / 2) }
        store.roomFor(1)
        assertEquals(2, world.recommended())
    }

    @Test fun `a disk that is full in the middle of a download is said, and what was there goes on`() {
        world.behind(2)
        val full = File("/dev/full")
        assumeTrue(full.exists(), "no /dev/full on this machine")
        for (target in world.signed.refresh().filter { it.path.startsWith("stable/3/") }) {
            Files.createSymbolicLink(inStore("downloads/${target.sha256}.part").toPath(), full.toPath())
        }
        assertThrows(StoreException::class.java) { world.client().refresh() }
        assertEquals(2, world.recommended())
        inStore("downloads").deleteRecursively()
        world.client().refresh()
        assertEquals(3, world.recommended())
    }

    @Test fun `two clients at once take turns, and neither disturbs the other`() {
        world.behind(2)
        val holds = CountDownLatch(1)
        val goOn = CountDownLatch(1)
        val slow = world.client {
            if (it is SyncEvent.Verifying) {
                holds.countDown()
                goOn.await(20, TimeUnit.SECONDS)
            }
        }
        val working = thread { slow.refresh() }
        assertTrue(holds.await(20, TimeUnit.SECONDS))
        assertEquals(2, world.recommended())
        assertThrows(StoreException::class.java) { world.client().refresh() }
        assertThrows(StoreException::class.java) { world.client().rollback() }
        goOn.countDown()
        working.join()
        assertFalse(world.client().refresh().changed)
        assertEquals(3, world.recommended())
    }

    @Test fun `another process at work is said`() {
        world.behind(2)
        val other = otherProcess()
        try {
            assertEquals("held", other.inputStream.bufferedReader().readLine())
            assertThrows(StoreException::class.java) { world.client().refresh() }
            assertEquals(2, world.recommended())
        } finally {
            other.destroyForcibly().waitFor() // the lock goes with it
        }
        world.client().refresh()
        assertEquals(3, world.recommended())
    }

    @Test fun `who was refused here does not let another process in`() {
        world.behind(2)
        WriterLock.tryAcquire(inStore("lock"))!!.use {
            assertNull(WriterLock.tryAcquire(inStore("lock")))
            assertEquals("refused", otherProcess().inputStream.bufferedReader().readLine())
        }
        WriterLock.tryAcquire(inStore("lock"))!!.close()
    }

    private fun otherProcess(): Process {
        val java = File(System.getProperty("java.home"), "bin/java").path
        val path = System.getProperty("java.class.path")
        val command = listOf(java, "-cp", path, Holder::class.java.name, inStore("lock").path)
        return ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.INHERIT).start()
    }

    /** Another process that writes, until it is ended. */
    object Holder {
        @JvmStatic fun main(arguments: Array<String>) {
            val lock = WriterLock.tryAcquire(File(arguments[0])) ?: return println("refused")
            println("held")
            lock.use { System.`in`.read() }
        }
    }
}
