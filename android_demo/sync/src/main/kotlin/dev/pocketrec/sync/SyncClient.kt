package dev.pocketrec.sync

import dev.pocketrec.LiveRecommender
import dev.pocketrec.PocketRecException
import dev.pocketrec.Recommender
import java.io.File
import java.io.IOException
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.thread
import kotlin.concurrent.withLock
import kotlin.random.Random

/** The version of this runtime, which a release may ask for at least. */
const val RUNTIME_VERSION = "0.1.0"

/**
 * Keeps a store up to date with what is signed, and hands out a recommender that follows it. Calls from several threads
 * are safe, and several processes may share a store.
 *
 * Promises: whatever the line, the far side, the disk or a kill does, the last good version goes on recommending;
 * nothing that is not signed is ever used; calls in flight finish on the version they began with.
 *
 * @param targets verified answers to what is signed now
 * @param store folder that is this client's own
 * @param channel which releases to follow
 * @param fetcher what asks for files
 * @param conditions asked with the bytes to fetch, before a release is fetched; false postpones it
 * @param onEvent told what a refresh does, in its thread
 * @param runtime version that releases are chosen for
 * @param open how a version is opened
 */
class SyncClient @JvmOverloads constructor(
    private val targets: TrustedTargets,
    store: File,
    channel: String = "stable",
    private val mode: SyncMode = SyncMode.LOCAL_THEN_BACKGROUND,
    private val fetcher: Fetcher = HttpFetcher(),
    private val conditions: (bytes: Long) -> Boolean = { true },
    private val onEvent: (SyncEvent) -> Unit = {},
    private val limits: Limits = Limits(),
    private val runtime: String = RUNTIME_VERSION,
    private val open: (File) -> Recommender = { Recommender.load(it) },
) : AutoCloseable {
    private val channel = checkChannel(channel)
    private val store = Store(store)
    private val lock = ReentrantLock() // one refresh at a time in this client
    private val stop = CountDownLatch(1)
    private val threads = ArrayList<Thread>()
    private var shown: String? = null // the version that `live` uses

    @Volatile private var live: LiveRecommender? = null

    @Volatile private var error: String? = null

    /**
     * Ask for news, and swap to the newest release that this device may have.
     *
     * @throws TrustException if the far side is not to be believed
     * @throws LineException if the line failed
     * @throws StoreException if the store cannot be written, or another process is refreshing it
     * @throws SyncException if a release does not work here; in every case, what was there goes on
     */
    fun refresh(): RefreshResult = lock.withLock {
        if (mode == SyncMode.LOCAL) {
            follow()
            return RefreshResult(false, release(), 0, 0, How.UNCHANGED)
        }
        val downloads = Downloads(store.downloads, fetcher, limits)
        val before = store.current().current
        val how = store.writing { update(downloads) }
        val changed = store.current().current != before
        follow()
        if (changed) onEvent(SyncEvent.Swapped(release() ?: 0))
        RefreshResult(changed, release(), downloads.received, downloads.requests, how)
    }

    /** Bring the store up to date; return how. */
    private fun update(downloads: Downloads): How {
        onEvent(SyncEvent.Checking)
        val signed = verified()
        var state = store.state()
        val now = store.current()
        if (state.settled == settled(signed)) return How.UNCHANGED
        store.remember(state) // the device's id decides which releases it may have
        val assembly = Assembly(store, downloads, HealthCheck(open), conditions, onEvent)
        for (release in candidates(signed, channel, state, runtime)) {
            if (release.name == now.current) break
            try {
                if (!assembly.install(release)) return How.POSTPONED
            } catch (error: BadReleaseException) {
                state = state.withBad(release.manifest.sha256, runtime)
                store.remember(state)
                onEvent(SyncEvent.Failed(error))
                continue
            }
            store.swap(release.name, now.current)
            break
        }
        store.remember(state.copy(settled = settled(signed)))
        store.sweep()
        return if (store.current().current != now.current) assembly.how else How.UNCHANGED
    }

    private fun verified(): List<TargetInfo> =
        try {
            checkTargets(targets.refresh())
        } catch (error: SyncException) {
            throw error
        } catch (error: IOException) {
            throw LineException("the repository cannot be read (${error.message}); try again later", error)
        } catch (error: RuntimeException) {
            throw TrustException("the repository is not to be believed (${error.message}); nothing was changed", error)
        }

    /** What a finished refresh was about: channel, runtime, version and what was signed. */
    private fun settled(signed: List<TargetInfo>): String {
        val lines = signed.map { "${it.path} ${it.length} ${it.sha256} ${it.custom}" }.sorted()
        return "$channel $runtime ${store.current().current} ${sha256Hex(lines.joinToString("\n").toByteArray())}"
    }

    /**
     * Go back to the version before, and do not come back to the one that is left.
     *
     * @return the name of the version that is current now
     * @throws SyncException if there is none before it
     */
    fun rollback(): String = lock.withLock {
        val name = store.writing {
            val now = store.current()
            if (now.current == null || now.previous == null) {
                throw SyncException("there is no version before this one to go back to")
            }
            val left = sha256Hex(File(store.path(now.current), MANIFEST_FILE))
            store.remember(store.state().withBad(left, runtime).copy(settled = ""))
            store.swap(now.previous, null)
            store.sweep()
            now.previous
        }
        follow()
        name
    }

    /**
     * The recommender that follows the store; always the same one. Its first call obeys the mode.
     *
     * @throws SyncException if there is no version in the store, and none could be fetched
     * @throws PocketRecException if the version in the store is damaged, and so is the one before it
     */
    fun recommender(): LiveRecommender {
        live?.let { return it }
        val isEmpty = store.current().current == null
        if (mode == SyncMode.LATEST || (isEmpty && mode != SyncMode.LOCAL)) tryToRefresh(orThrow = isEmpty)
        val made = lock.withLock { live ?: LiveRecommender(openCurrent()).also { live = it } }
        if (mode == SyncMode.LOCAL_THEN_BACKGROUND && !isEmpty) start { tryToRefresh() }
        return made
    }

    /** The current version opened; a damaged one is dropped, to be fetched anew, and the one before it opened. */
    private fun openCurrent(): Recommender {
        val now = store.current()
        val name = now.current
            ?: throw SyncException("${store.folder} holds no release yet; refresh once while there is a connection")
        return try {
            open(store.path(name)).also { shown = name }
        } catch (error: PocketRecException) {
            try {
                store.writing { store.drop(name) }
            } catch (_: StoreException) { // then it is dropped another time
            }
            val previous = now.previous ?: throw error
            open(store.path(previous)).also { shown = previous }
        }
    }

    /** Let the live recommender use what is current now. */
    private fun follow() {
        val name = store.current().current
        val following = live
        if (following == null || name == null || name == shown || isClosed()) return
        val next = open(store.path(name))
        try {
            following.swap(next)
        } catch (error: PocketRecException) { // closed meanwhile
            next.close()
            throw error
        }
        shown = name
    }

    /** Refresh again and again in the background, until [close]; failures are told as events. */
    @JvmOverloads
    fun watch(seconds: Double = 3600.0, vary: Double = 0.2) {
        if (seconds.isNaN() || seconds <= 0 || vary < 0 || vary >= 1) {
            throw SyncException("seconds is $seconds and vary $vary; give seconds above 0, and 0 to 1")
        }
        start {
            fun pause() = (1000 * seconds * Random.nextDouble(1 - vary, 1 + vary + 1e-9)).toLong()
            while (!stop.await(pause(), TimeUnit.MILLISECONDS)) tryToRefresh()
        }
    }

    private fun start(work: () -> Unit) {
        val started = thread(isDaemon = true, name = "pocketrec-sync", block = work)
        synchronized(threads) { threads += started }
    }

    private fun tryToRefresh(orThrow: Boolean = false) {
        try {
            refresh()
            error = null
        } catch (failure: Exception) { // a background thread must not die of anything
            error = failure.message ?: failure.toString()
            onEvent(SyncEvent.Failed(failure))
            if (orThrow) throw failure
        }
    }

    /** What is in the store, and what went wrong last. */
    fun status(): Status {
        val now = store.current()
        return Status(channel, now.current, now.previous, now.release, store.state().bad.keys.toList(), error)
    }

    private fun release(): Long? = store.current().release

    private fun isClosed() = stop.count == 0L

    /** Stop watching, and close the recommender. */
    override fun close() {
        stop.countDown()
        val running = synchronized(threads) { threads.toList() }
        running.filter { it !== Thread.currentThread() }.forEach { it.join(CLOSE_MILLIS) }
        live?.close()
    }

    private companion object {
        const val CLOSE_MILLIS = 5_000L
    }
}
