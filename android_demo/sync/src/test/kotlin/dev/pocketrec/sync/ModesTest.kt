package dev.pocketrec.sync

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

/** When the server is asked, and what comes of a server that does not answer. */
class ModesTest : InWorld() {
    @Test fun `local never asks`() {
        world.behind(2)
        val before = world.signed.asked
        val client = world.client(mode = SyncMode.LOCAL)
        assertEquals(Vectors.items(2), itemsOf(client.recommender()))
        assertEquals(RefreshResult(false, 2, 0, 0, How.UNCHANGED), client.refresh())
        assertEquals(before, world.signed.asked)
    }

    @Test fun `local needs something in the store`() {
        val client = world.client(mode = SyncMode.LOCAL)
        assertThrows(SyncException::class.java) { client.recommender() }
    }

    @Test fun `local follows what another client brought`() {
        world.behind(2)
        val local = world.client(mode = SyncMode.LOCAL)
        val live = local.recommender()
        world.client().refresh()
        local.refresh()
        assertEquals(Vectors.items(3), itemsOf(live))
    }

    @Test fun `latest asks first, and makes do without a line`() {
        world.behind(2)
        world.far.plan = { _, _ -> FarSide.status(503) }
        val client = world.client()
        assertEquals(Vectors.items(2), itemsOf(client.recommender()))
        assertTrue(client.status().error!!.contains("503"))
        world.far.plan = { _, _ -> FarSide.well }
        assertEquals(Vectors.items(3), itemsOf(world.client().recommender()))
    }

    @Test fun `latest with an empty store and no line is an error`() {
        world.signed.refusal = java.io.IOException("no route")
        assertThrows(LineException::class.java) { world.client().recommender() }
    }

    @Test fun `background answers at once and follows`() {
        world.behind(2)
        world.far.plan = { number, _ -> if (number == 0) slow else FarSide.well }
        val client = world.client(mode = SyncMode.LOCAL_THEN_BACKGROUND)
        val live = client.recommender()
        assertEquals(Vectors.items(2), itemsOf(live))
        until { itemsOf(live) == Vectors.items(3) }
    }

    @Test fun `background fills an empty store first`() {
        assertEquals(Vectors.items(3), itemsOf(world.client(mode = SyncMode.LOCAL_THEN_BACKGROUND).recommender()))
    }

    @Test fun `watching follows by itself, tells failures, and ends with the client`() {
        world.behind(2)
        world.signed.refusal = TrustException("not yet")
        val failed = ArrayList<SyncEvent>()
        val client = world.client { if (it is SyncEvent.Failed) failed += it }
        val live = client.recommender()
        client.watch(seconds = 0.02)
        until { failed.size > 2 }
        world.signed.refusal = null
        until { itemsOf(live) == Vectors.items(3) }
        client.close()
        val asked = world.signed.asked
        Thread.sleep(100)
        assertEquals(asked, world.signed.asked)
        assertThrows(SyncException::class.java) { client.watch(seconds = 0.0) }
    }

    @Test fun `a damaged version is dropped, the one before it used, and the next refresh fetches it anew`() {
        world.behind(2)
        damage(Vectors.name(2))
        val client = world.client(mode = SyncMode.LOCAL)
        assertEquals(Vectors.items(1), itemsOf(client.recommender()))
        world.signed.newest = 2
        assertTrue(world.client().refresh().changed)
        assertEquals(2, world.recommended())
    }

    @Test fun `a damaged only version is an error that the next refresh mends`() {
        world.signed.newest = 1
        world.client().refresh()
        damage(Vectors.name(1))
        assertThrows(dev.pocketrec.PocketRecException::class.java) { world.client(mode = SyncMode.LOCAL).recommender() }
        assertFalse(File(world.store(), "versions/${Vectors.name(1)}").exists())
        world.client().refresh()
        assertEquals(1, world.recommended())
    }

    private fun damage(name: String) = File(world.store(), "versions/$name/trie.safetensors").writeBytes(ByteArray(10))

    private companion object {
        val slow: Fault = { exchange, content, begin ->
            Thread.sleep(150)
            FarSide.well(this, exchange, content, begin)
        }

        fun until(isSo: () -> Boolean) {
            val end = System.nanoTime() + 20_000_000_000
            while (!isSo()) {
                assertTrue(System.nanoTime() < end, "it never came")
                Thread.sleep(10)
            }
        }
    }
}
