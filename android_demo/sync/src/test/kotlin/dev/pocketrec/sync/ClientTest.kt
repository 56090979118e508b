package dev.pocketrec.sync

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertSame
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

/** A client when nothing fails. */
class ClientTest : InWorld() {
    @Test fun `the first refresh fetches the bundle, and the next one finds nothing new`() {
        world.signed.newest = 1
        val client = world.client()
        val first = client.refresh()
        assertEquals(RefreshResult(true, 1, first.bytes, 7, How.FILES), first)
        assertEquals(RefreshResult(false, 1, 0, 0, How.UNCHANGED), client.refresh())
        assertEquals(Status("stable", Vectors.name(1), null, 1, emptyList(), null), client.status())
        assertEquals(1, world.recommended())
    }

    @Test fun `a new catalogue comes as a patch, and nothing else is fetched again`() {
        val client = world.behind(2)
        val refreshed = client.refresh()
        assertEquals(How.PATCH, refreshed.how)
        assertEquals(2, refreshed.requests)
        assertTrue(world.server.requests.map { it.first }.all { it.endsWith(".manifest.json") || it.endsWith(".zst") })
        assertEquals(3, world.recommended())
    }

    @Test fun `without a patch the whole file is fetched`() {
        val client = world.behind(2)
        world.signed.others = { all -> all.filterNot { it.path.endsWith(".zst") } }
        assertEquals(How.FILES, client.refresh().how)
        assertEquals(3, world.recommended())
    }

    @Test fun `a running recommender moves to the new version`() {
        world.signed.newest = 1
        val client = world.client()
        val live = client.recommender()
        assertEquals(Vectors.items(1), itemsOf(live))
        world.signed.newest = 3
        client.refresh()
        assertSame(live, client.recommender())
        assertEquals(Vectors.items(3), itemsOf(live))
    }

    @Test fun `a client takes releases of its own channel only`() {
        world.behind(2)
        world.client(channel = "beta").refresh()
        assertEquals(2, world.recommended())
        assertThrows(SyncException::class.java) { world.client(channel = "No channel") }
    }

    @Test fun `a release for newer runtimes is skipped until the app is updated`() {
        world.signed.custom = { if (it.get("release").asLong == 3L) it.addProperty("minimum_runtime", "0.2") }
        world.client().refresh()
        assertEquals(2, world.recommended())
        world.client(runtime = "0.2.0").refresh()
        assertEquals(3, world.recommended())
    }

    @Test fun `a staged release goes to its share of the devices, and a smaller share sends them back`() {
        world.behind(2)
        world.signed.custom = { if (it.get("release").asLong == 3L) it.addProperty("per_million", 0) }
        val client = world.client()
        assertFalse(client.refresh().changed)
        world.signed.custom = {}
        assertEquals(3, client.refresh().release)
        world.signed.custom = { if (it.get("release").asLong == 3L) it.addProperty("per_million", 0) }
        assertEquals(2, client.refresh().release)
        assertEquals(2, world.recommended())
    }

    @Test fun `a withdrawn release is replaced by the stored one before it, without a download`() {
        val client = world.behind(2)
        client.refresh()
        world.signed.withdrawn = setOf(3)
        assertEquals(RefreshResult(true, 2, 0, 0, How.KEPT), client.refresh())
        assertEquals(2, world.recommended())
    }

    @Test fun `the previous version is kept, and older ones are deleted`() {
        world.behind(2).refresh()
        val kept = File(world.store(), "versions").list()!!.toSet()
        assertEquals(setOf(Vectors.name(2), Vectors.name(3)), kept)
        assertEquals(0, File(world.store(), "downloads").list()!!.size)
    }

    @Test fun `a rollback goes to the previous version, and the client stays there`() {
        val client = world.behind(2)
        client.refresh()
        val live = client.recommender()
        assertEquals(Vectors.name(2), client.rollback())
        assertEquals(Vectors.items(2), itemsOf(live))
        assertFalse(client.refresh().changed)
        assertThrows(SyncException::class.java) { client.rollback() }
        assertEquals(2, world.recommended())
    }

    @Test fun `a release that fails on this device is not tried again until the runtime changes`() {
        world.behind(2)
        world.signed.custom = { if (it.get("release").asLong == 3L) it.addProperty("model", "0".repeat(64)) }
        val failed = ArrayList<SyncEvent>()
        val client = world.client { event -> if (event is SyncEvent.Failed) failed += event }
        assertFalse(client.refresh().changed)
        assertEquals(1, failed.size)
        assertEquals(1, client.status().bad.size)
        world.signed.withdrawn = setOf(1) // the signed targets differ, so the client looks again
        assertFalse(client.refresh().changed)
        assertEquals(1, failed.size)
        assertEquals(2, world.recommended())
        world.signed.custom = {}
        assertEquals(3, world.client(runtime = "0.1.1").refresh().release)
    }

    @Test fun `conditions postpone a download`() {
        world.behind(2)
        val costs = ArrayList<Long>()
        val client = world.client(conditions = { costs += it; costs.size > 1 })
        assertEquals(How.POSTPONED, client.refresh().how)
        assertEquals(2, world.recommended())
        assertEquals(How.PATCH, client.refresh().how)
        assertEquals(3, world.recommended())
        assertTrue(costs.all { it in 1..1000 })
    }

    @Test fun `a refresh sends events`() {
        world.behind(2)
        val told = ArrayList<SyncEvent>()
        world.client { told += it }.refresh()
        assertEquals(SyncEvent.Checking, told.first())
        assertTrue(told.any { it is SyncEvent.Downloading && it.done == it.total })
        assertEquals(listOf(SyncEvent.Verifying(3), SyncEvent.Swapped(3)), told.takeLast(2))
    }

    @Test fun `a release with invalid data is refused, and the error says why`() {
        val client = world.behind(2)
        world.signed.custom = { it.addProperty("release", 9) }
        val error = assertThrows(SyncException::class.java) { client.refresh() }
        assertTrue(error.message!!.contains("another release"))
        assertEquals(2, world.recommended())
    }

    @Test fun `the server is not contacted before the first use`() {
        val client = world.client()
        assertNull(client.status().current)
        assertEquals(0, world.signed.refreshes)
    }
}
