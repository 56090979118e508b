package dev.pocketrec.sync

import com.github.luben.zstd.Zstd
import dev.pocketrec.internal.sha256Hex
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.io.File

/** Patches from Python, and invalid patches. */
class PatchTest {
    private fun target(name: String) = File(Vectors.repo, "targets/$name").parentFile.listFiles()!!
        .single { it.name.substringAfter('.') == name.substringAfterLast('/') }.readBytes()

    private val new = target("stable/3/trie.safetensors")

    private fun patches() = (1..2).map { release ->
        val base = target("stable/$release/trie.safetensors")
        base to target("stable/3/trie.safetensors.from-${sha256Hex(base).take(16)}.zst")
    }

    @Test fun `patches from Python are applied`() {
        for ((base, patch) in patches()) {
            assertTrue(patch.size < new.size)
            assertArrayEquals(new, applyPatch(base, patch, new.size.toLong()))
        }
    }

    @Test fun `another length than the signed one is refused`() {
        val (base, patch) = patches().first()
        for (length in listOf(0L, 1L, new.size - 1L, new.size + 1L, 1L shl 40)) {
            assertThrows(SyncException::class.java) { applyPatch(base, patch, length) }
        }
    }

    @Test fun `a damaged patch is refused, or its result is wrong`() {
        val (base, patch) = patches().first()
        for (at in patch.indices) {
            val damaged = patch.copyOf().also { it[at] = (it[at].toInt() xor 0x55).toByte() }
            assertFalse(isApplied(base, damaged), "byte $at")
            assertFalse(isApplied(base, patch.copyOf(at)), "cut at $at")
        }
    }

    @Test fun `a patch on another base is refused, or its result is wrong`() {
        val (first, second) = patches()
        assertFalse(isApplied(second.first, first.second))
        assertFalse(isApplied(ByteArray(0), first.second))
    }

    @Test fun `a frame that needs too large a window is refused`() {
        val made = Zstd.compress(ByteArray(1 shl 12), 1)
        val descriptor = made.copyOf()
        descriptor[4] = (descriptor[4].toInt() and 0x20.inv()).toByte() // not a single segment, so a window follows
        descriptor[5] = (20 shl 3).toByte() // one gigabyte
        assertThrows(SyncException::class.java) { applyPatch(ByteArray(10), descriptor, 1 shl 12) }
    }

    @Test fun `windows are the same as in Python`() {
        assertEquals(listOf(17, 17, 17, 18, 28), listOf(0L, 1L, 1L shl 17, (1L shl 17) + 1, 1L shl 28).map(::windowLog))
        assertThrows(SyncException::class.java) { windowLog((1L shl 28) + 1) }
    }

    private fun isApplied(base: ByteArray, patch: ByteArray) =
        try {
            applyPatch(base, patch, new.size.toLong()).contentEquals(new)
        } catch (_: SyncException) {
            false
        }
}
