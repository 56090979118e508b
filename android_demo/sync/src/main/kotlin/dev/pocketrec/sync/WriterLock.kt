package dev.pocketrec.sync

import java.io.Closeable
import java.io.File
import java.io.RandomAccessFile
import java.nio.channels.OverlappingFileLockException

/**
 * One writer at a time in a folder. Across processes by the operating system's lock, which goes with the process.
 * Within this one by a set of names, since closing a second handle of the file would give the first one's lock away.
 */
internal class WriterLock private constructor(
    private val name: String,
    private val file: RandomAccessFile,
) : Closeable {
    override fun close() {
        file.close()
        synchronized(held) { held.remove(name) }
    }

    companion object {
        private val held = HashSet<String>()

        /** The lock; null if another holds it. */
        fun tryAcquire(file: File): WriterLock? {
            val name = file.canonicalPath
            if (!synchronized(held) { held.add(name) }) return null
            var opened: RandomAccessFile? = null
            var locked = false
            try {
                opened = RandomAccessFile(file, "rw")
                locked = opened.channel.tryLock() != null
                return if (locked) WriterLock(name, opened) else null
            } catch (_: OverlappingFileLockException) { // the same file by another class loader
                return null
            } finally {
                if (!locked) {
                    opened?.close()
                    synchronized(held) { held.remove(name) }
                }
            }
        }
    }
}
