package dev.pocketrec.sync

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import java.io.File

/** Python and Kotlin use the same store. */
class PythonStoreTest : InWorld() {
    @Test fun `a store from Python opens, and is updated by a patch`() {
        File(Vectors.root, "store").copyRecursively(world.store())
        assertEquals(2, world.recommended())
        val wrote = Vectors.expected.getAsJsonObject("store")
        assertEquals(wrote.get("previous").asString, world.client().status().previous)
        assertEquals(How.PATCH, world.client().refresh().how)
        assertEquals(wrote.get("device").asString, Store(world.store()).state().device)
        assertEquals(3, world.recommended())
    }

    @Test fun `a store from Python rolls back`() {
        File(Vectors.root, "store").copyRecursively(world.store())
        world.client().rollback()
        assertEquals(1, world.recommended())
    }

    @Test fun `a store from Kotlin opens in Python, which updates it by a patch`() {
        world.behind(2)
        val device = Store(world.store()).state().device
        val root = File(Vectors.repo, "metadata/1.root.json").path
        val said = Vectors.python("-c", FOLLOWS, world.server.url, world.store().path, root)
        assertEquals("2 60 3 patch $device 60", said.trim())
        assertEquals(3, world.recommended())
    }

    private companion object {
        const val FOLLOWS = """
import sys
from pathlib import Path
from pocketrec.runtime.sync import SyncClient
url, store, root = sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes()
def items(client):
    return len(client.recommender(engine="reference").recommend([], k=1000))
with SyncClient(url, store, root, mode="local") as client:
    print(client.status().release, items(client), end=" ")
with SyncClient(url, store, root, mode="latest") as client:
    done = client.refresh()
    print(done.release, done.how, client.store.state().device, items(client))
"""
    }
}
