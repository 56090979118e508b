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

/** Disk errors, kills and other writers: the last good version recommends, and a refresh repairs the store. */
class StoreTest : InWorld() {
    private fun inStore(name: String) = File(world.store(), name)

    /** The states that a kill leaves at each step of a refresh. */
    @ParameterizedTest(name = "{0}")
    @ValueSource(
        strings = [
            "half a download", "half a version", "a whole version without its name", "a version before the swap",
            "half a current file",
        ],
    )
    fun `a refresh repairs what a killed writer left`(step: String) {
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
    fun `a damaged current file loses nothing`(content: String) {
        world.behind(2)
        inStore("current").writeText(content)
        assertEquals(2, world.recommended())
        world.client().refresh()
        assertEquals(3, world.recommended())
    }

    @ParameterizedTest(name = "{index}")
    @ValueSource(strings = ["", "[1]", "{\"device\": 5, \"bad\": [], \"settled\": {}}", "{\"bad\": {\"a\": 1}}"])
    fun `a damaged state file is replaced`(content: String) {
        world.behind(2)
        inStore("state.json").writeText(content)
        assertEquals(3, world.client().refresh().release)
        val device = Store(world.store()).state().device
        assertEquals(32, device.length)
        assertEquals(device, Store(world.store()).state().device)
        assertEquals(3, world.recommended())
    }

    @Test fun `every device has its own id`() {
        world.behind(1, "a")
        world.behind(1, "b")
        assertNotEquals(Store(world.store("a")).state().device, Store(world.store("b")).state().device)
    }

    @Test fun `a failed write is an error, and the current version stays in use`() {
        for (name in listOf("state.json", "current")) { // a folder that is not empty stands in place of the file
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

    @Test fun `a folder that cannot be written is an error, and the current version stays in use`() {
        world.behind(2)
        inStore("downloads").deleteRecursively()
        inStore("downloads").writeText("in the way")
        assertThrows(StoreException::class.java) { world.client().refresh() }
        assertEquals(2, world.recommended())
        val under = world.client(store = "store/current/under")
        assertThrows(StoreException::class.java) { under.refresh() }
    }

    @Test fun `a release that does not fit on the disk is refused before it is fetched`() {
        world.behind(2)
        val store = Store(world.store())
        assertThrows(StoreException::class.java) { store.roomFor(Long.MAX_VALUE / 2) }
        store.roomFor(1)
        assertEquals(2, world.recommended())
    }

    @Test fun `a full disk during a download is an error, and the current version stays in use`() {
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

    @Test fun `a second client is refused during a refresh, and does not disturb it`() {
        world.behind(2)
        val holds = CountDownLatch(1)
        val resume = CountDownLatch(1)
        val slow = world.client {
            if (it is SyncEvent.Verifying) {
                holds.countDown()
                resume.await(20, TimeUnit.SECONDS)
            }
        }
        val working = thread { slow.refresh() }
        assertTrue(holds.await(20, TimeUnit.SECONDS))
        assertEquals(2, world.recommended())
        assertThrows(StoreException::class.java) { world.client().refresh() }
        assertThrows(StoreException::class.java) { world.client().rollback() }
        resume.countDown()
        working.join()
        assertFalse(world.client().refresh().changed)
        assertEquals(3, world.recommended())
    }

    @Test fun `a refresh by another process is reported`() {
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

    @Test fun `a refused writer does not release the lock for other processes`() {
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

    /** Another process that holds the lock until it is killed. */
    object Holder {
        @JvmStatic fun main(arguments: Array<String>) {
            val lock = WriterLock.tryAcquire(File(arguments[0])) ?: return println("refused")
            println("held")
            lock.use { System.`in`.read() }
        }
    }
}
