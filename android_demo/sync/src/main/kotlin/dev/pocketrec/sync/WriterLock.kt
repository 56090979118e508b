package dev.pocketrec.sync

import java.io.Closeable
import java.io.File
import java.io.RandomAccessFile
import java.nio.channels.OverlappingFileLockException

/**
 * Allows one writer at a time in a folder. Between processes it is a lock of the operating system, which ends with the
 * process. Within this process it is a set of names: closing a second handle of the file would release the first lock.
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

        /** The lock; null if another writer holds it. */
        fun tryAcquire(file: File): WriterLock? {
            val name = file.canonicalPath
            if (!synchronized(held) { held.add(name) }) return null
            var opened: RandomAccessFile? = null
            var locked = false
            try {
                opened = RandomAccessFile(file, "rw")
                locked = opened.channel.tryLock() != null
                return if (locked) WriterLock(name, opened) else null
            } catch (_: OverlappingFileLockException) { // another class loader holds the same file
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
