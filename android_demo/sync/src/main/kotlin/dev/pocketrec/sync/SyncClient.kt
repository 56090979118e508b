package dev.pocketrec.sync

import dev.pocketrec.BundleException
import dev.pocketrec.ConfigException
import dev.pocketrec.LiveRecommender
import dev.pocketrec.PocketRecException
import dev.pocketrec.Recommender
import dev.pocketrec.internal.MANIFEST_FILE
import dev.pocketrec.internal.sha256Hex
import java.io.File
import java.io.IOException
import java.util.concurrent.CountDownLatch
import java.util.concurrent.TimeUnit
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.thread
import kotlin.concurrent.withLock
import kotlin.random.Random

/** The version of this runtime; a release may require a minimum. */
const val RUNTIME_VERSION = "0.1.0"

/**
 * Keeps a store up to date with signed releases, and provides a recommender that follows the store. Calls from several
 * threads are safe, and several processes may share a store.
 *
 * Promises: if the network, the repository or the disk fails, or the process is killed, the last good version stays in
 * use; only signed files are used; calls in flight finish on the version they began with; after [close], nothing that
 * the client opened stays open.
 *
 * @param targets gives the signed targets, verified
 * @param store folder for this client only
 * @param channel the releases to follow
 * @param mode when the server is contacted
 * @param fetcher fetches the files
 * @param conditions called with the number of bytes before a release is fetched; false postpones it
 * @param onEvent receives the events of a refresh, on its thread
 * @param limits of downloads
 * @param runtime the runtime version that releases have to support
 * @param open opens a version
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
    private var followed: String? = null // the version that `live` uses

    @Volatile private var live: LiveRecommender? = null

    @Volatile private var error: String? = null

    /**
     * Fetches the newest release that this device may take, and swaps to it. If it fails, the current version stays in
     * use.
     *
     * @throws TrustException if the repository is not trusted
     * @throws NetworkException if the network failed
     * @throws StoreException if the store cannot be written, or another process is refreshing it
     * @throws SyncException if the data of a release is invalid
     * @throws ConfigException if the client was closed
     */
    fun refresh(): RefreshResult = lock.withLock {
        checkOpen()
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

    /** Brings the store up to date. */
    private fun update(downloads: Downloads): How {
        onEvent(SyncEvent.Checking)
        val signed = verified()
        var state = store.state()
        val now = store.current()
        if (state.settled == summary(signed)) return How.UNCHANGED
        store.remember(state) // the id decides which releases the device may take, so it is kept
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
        store.remember(state.copy(settled = summary(signed)))
        store.sweep()
        return if (store.current().current != now.current) assembly.how else How.UNCHANGED
    }

    private fun verified(): List<TargetInfo> =
        try {
            checkTargets(targets.refresh())
        } catch (error: SyncException) {
            throw error
        } catch (error: IOException) {
            throw NetworkException("the repository cannot be read (${error.message}); try again later", error)
        } catch (error: RuntimeException) {
            throw TrustException("the repository is not trusted (${error.message}); nothing was changed", error)
        }

    /** A summary of a finished refresh. If the next one has the same, there is nothing to do. */
    private fun summary(signed: List<TargetInfo>): String {
        val lines = signed.map { "${it.path} ${it.length} ${it.sha256} ${it.custom}" }.sorted()
        return "$channel $runtime ${store.current().current} ${sha256Hex(lines.joinToString("\n").toByteArray())}"
    }

    /**
     * Goes back to the previous version. The version that was current is not installed again.
     *
     * @return the name of the version that is current now
     * @throws SyncException if there is no previous version
     * @throws ConfigException if the client was closed
     */
    fun rollback(): String = lock.withLock {
        checkOpen()
        val name = store.writing {
            val now = store.current()
            if (now.current == null || now.previous == null) {
                throw SyncException("there is no previous version to roll back to")
            }
            val rejected = sha256Hex(File(store.path(now.current), MANIFEST_FILE))
            store.remember(store.state().withBad(rejected, runtime).copy(settled = ""))
            store.swap(now.previous, null)
            store.sweep()
            now.previous
        }
        follow()
        name
    }

    /**
     * The recommender that follows the store; always the same object. The first call contacts the server as [SyncMode]
     * says.
     *
     * @throws SyncException if the store is empty and no release could be fetched
     * @throws PocketRecException if the current version does not open, or it is damaged and the previous one, too
     * @throws ConfigException if the client was closed
     */
    fun recommender(): LiveRecommender {
        checkOpen()
        live?.let { return it }
        val isEmpty = store.current().current == null
        if (mode == SyncMode.LATEST || (isEmpty && mode != SyncMode.LOCAL)) tryToRefresh(orThrow = isEmpty)
        val made = lock.withLock { live ?: LiveRecommender(openCurrent()).also { live = it } }
        if (isClosed()) { // `close` may have seen no recommender yet
            made.close()
            checkOpen()
        }
        if (mode == SyncMode.LOCAL_THEN_BACKGROUND && !isEmpty) start { tryToRefresh() }
        return made
    }

    /** Opens the current version. A damaged one is deleted, to be fetched again, and the previous one is opened. */
    private fun openCurrent(): Recommender {
        val now = store.current()
        val name = now.current
            ?: throw SyncException("${store.folder} has no release yet; call refresh() while there is a connection")
        return try {
            open(store.path(name)).also { followed = name }
        } catch (error: BundleException) {
            if (store.isIntact(name)) throw error
            try {
                store.writing { if (!store.isIntact(name)) store.drop(name) }
            } catch (_: StoreException) { // it is deleted at the next opening
            }
            val previous = now.previous ?: throw error
            open(store.path(previous)).also { followed = previous }
        }
    }

    /** Moves the live recommender to the current version. */
    private fun follow() {
        val name = store.current().current
        val following = live
        if (following == null || name == null || name == followed || isClosed()) return
        val next = open(store.path(name))
        try {
            following.swap(next)
        } catch (error: PocketRecException) { // closed meanwhile
            next.close()
            throw error
        }
        followed = name
    }

    /**
     * Refreshes in the background until [close]. Failures are events.
     *
     * @param seconds mean pause between refreshes
     * @param vary random variation of the pause, as a share of it, so that devices do not all refresh at once
     */
    @JvmOverloads
    fun watch(seconds: Double = 3600.0, vary: Double = 0.2) {
        if (seconds.isNaN() || seconds <= 0 || vary < 0 || vary >= 1) {
            throw SyncException("seconds is $seconds and vary is $vary; give seconds above 0, vary from 0 to below 1")
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
        } catch (failure: Exception) { // no failure may end a background thread
            error = failure.message ?: failure.toString()
            onEvent(SyncEvent.Failed(failure))
            if (orThrow) throw failure
        }
    }

    /** The state of the store, and the last error. */
    fun status(): Status {
        val now = store.current()
        return Status(channel, now.current, now.previous, now.release, store.state().bad.keys.toList(), error)
    }

    private fun release(): Long? = store.current().release

    private fun isClosed() = stop.count == 0L

    private fun checkOpen() {
        if (isClosed()) throw ConfigException("this sync client was closed; make another")
    }

    /** Stops watching and closes the recommender. */
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
