package dev.pocketrec.sync

import dev.pocketrec.BundleException
import dev.pocketrec.ConfigException
import dev.pocketrec.Recommender
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

/** When each mode contacts the server, and what happens if the server does not respond. */
class ModesTest : InWorld() {
    @Test fun `local never contacts the server`() {
        world.behind(2)
        val before = world.signed.refreshes
        val client = world.client(mode = SyncMode.LOCAL)
        assertEquals(Vectors.items(2), itemsOf(client.recommender()))
        assertEquals(RefreshResult(false, 2, 0, 0, How.UNCHANGED), client.refresh())
        assertEquals(before, world.signed.refreshes)
    }

    @Test fun `local needs a version in the store`() {
        val client = world.client(mode = SyncMode.LOCAL)
        assertThrows(SyncException::class.java) { client.recommender() }
    }

    @Test fun `local follows a version that another client fetched`() {
        world.behind(2)
        val local = world.client(mode = SyncMode.LOCAL)
        val live = local.recommender()
        world.client().refresh()
        local.refresh()
        assertEquals(Vectors.items(3), itemsOf(live))
    }

    @Test fun `latest refreshes first, and uses the store without a network`() {
        world.behind(2)
        world.server.plan = { _, _ -> TestServer.status(503) }
        val client = world.client()
        assertEquals(Vectors.items(2), itemsOf(client.recommender()))
        assertTrue(client.status().error!!.contains("503"))
        world.server.plan = { _, _ -> TestServer.well }
        assertEquals(Vectors.items(3), itemsOf(world.client().recommender()))
    }

    @Test fun `latest with an empty store and no network is an error`() {
        world.signed.refusal = java.io.IOException("no route")
        assertThrows(NetworkException::class.java) { world.client().recommender() }
    }

    @Test fun `background mode recommends at once and follows new releases`() {
        world.behind(2)
        world.server.plan = { number, _ -> if (number == 0) slow else TestServer.well }
        val client = world.client(mode = SyncMode.LOCAL_THEN_BACKGROUND)
        val live = client.recommender()
        assertEquals(Vectors.items(2), itemsOf(live))
        until { itemsOf(live) == Vectors.items(3) }
    }

    @Test fun `background mode fills an empty store first`() {
        assertEquals(Vectors.items(3), itemsOf(world.client(mode = SyncMode.LOCAL_THEN_BACKGROUND).recommender()))
    }

    @Test fun `watching follows new releases, reports failures, and ends with the client`() {
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
        val refreshes = world.signed.refreshes
        Thread.sleep(100)
        assertEquals(refreshes, world.signed.refreshes)
        assertThrows(SyncException::class.java) { client.watch(seconds = 0.0) }
    }

    @Test fun `a damaged version is deleted, the previous one is used, and the next refresh fetches it again`() {
        world.behind(2)
        damage(Vectors.name(2))
        val client = world.client(mode = SyncMode.LOCAL)
        assertEquals(Vectors.items(1), itemsOf(client.recommender()))
        world.signed.newest = 2
        assertTrue(world.client().refresh().changed)
        assertEquals(2, world.recommended())
    }

    @Test fun `a damaged only version is an error that the next refresh repairs`() {
        world.signed.newest = 1
        world.client().refresh()
        damage(Vectors.name(1))
        assertThrows(dev.pocketrec.PocketRecException::class.java) { world.client(mode = SyncMode.LOCAL).recommender() }
        assertFalse(File(world.store(), "versions/${Vectors.name(1)}").exists())
        world.client().refresh()
        assertEquals(1, world.recommended())
    }

    @Test fun `an intact version that does not open is kept`() {
        world.behind(2)
        for (refusal in listOf(ConfigException("threads is 0"), BundleException("the graph does not open"))) {
            val client = world.client(mode = SyncMode.LOCAL, open = { throw refusal })
            assertEquals(refusal, assertThrows(refusal.javaClass) { client.recommender() })
            assertEquals(Vectors.name(2), client.status().current)
            assertEquals(2, world.recommended())
        }
    }

    @Test fun `a closed client refuses calls, and closes a recommender that was being opened`() {
        world.behind(2)
        var opened: Recommender? = null
        lateinit var client: SyncClient
        client = world.client(mode = SyncMode.LOCAL, open = { folder ->
            client.close()
            Recommender.load(folder).also { opened = it }
        })
        assertThrows(ConfigException::class.java) { client.recommender() }
        assertThrows(ConfigException::class.java) { opened!!.recommend(emptyList()) }
        assertThrows(ConfigException::class.java) { client.recommender() }
        assertThrows(ConfigException::class.java) { client.refresh() }
        assertThrows(ConfigException::class.java) { client.rollback() }
        assertEquals(2, world.recommended())
    }

    private fun damage(name: String) = File(world.store(), "versions/$name/trie.safetensors").writeBytes(ByteArray(10))

    private companion object {
        val slow: Behaviour = { exchange, content, begin ->
            Thread.sleep(150)
            TestServer.well(this, exchange, content, begin)
        }

        fun until(isSo: () -> Boolean) {
            val end = System.nanoTime() + 20_000_000_000
            while (!isSo()) {
                assertTrue(System.nanoTime() < end, "it did not happen in time")
                Thread.sleep(10)
            }
        }
    }
}
