package dev.pocketrec.sync

import com.google.gson.JsonObject
import com.google.gson.JsonParser
import dev.pocketrec.LiveRecommender
import dev.pocketrec.Recommender
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.io.TempDir
import java.io.File

val QUICK = Limits(attempts = 3, pauseMillis = 1)

/** A stand-in for a verifier: the signed targets of the vectors' repository up to a release, with faults on demand. */
class Signed(private val url: String) : TrustedTargets {
    var newest = 3L
    var withdrawn = emptySet<Long>()
    var refusal: Exception? = null
    var custom: (JsonObject) -> Unit = {}
    var others: (List<TargetInfo>) -> List<TargetInfo> = { it }
    var refreshes = 0

    override fun refresh(): List<TargetInfo> {
        refreshes++
        refusal?.let { throw it }
        val metadata = JsonParser.parseString(File(Vectors.repo, "metadata/4.targets.json").readText()).asJsonObject
        val listed = metadata.getAsJsonObject("signed").getAsJsonObject("targets").entrySet().map { (path, value) ->
            val target = value.asJsonObject
            val sha256 = target.getAsJsonObject("hashes").get("sha256").asString
            val fields = target.getAsJsonObject("custom")?.deepCopy()?.also { custom(it.getAsJsonObject("pocketrec")) }
            val place = TargetInfo.address(url, path, sha256)
            TargetInfo(path, target.get("length").asLong, sha256, place, fields?.toString())
        }
        return others(listed.filter { splitPath(it.path)!!.release.let { n -> n <= newest && n !in withdrawn } })
    }
}

/** A server, and devices that follow its releases. */
class World(private val folder: File) : AutoCloseable {
    val server = TestServer(Vectors.repo)
    val signed = Signed(server.url)
    private val clients = ArrayList<SyncClient>()

    fun store(name: String = "store") = File(folder, name)

    fun client(
        store: String = "store",
        mode: SyncMode = SyncMode.LATEST,
        channel: String = "stable",
        targets: TrustedTargets = signed,
        fetcher: Fetcher = HttpFetcher(readMillis = 2000),
        conditions: (Long) -> Boolean = { true },
        limits: Limits = QUICK,
        runtime: String = RUNTIME_VERSION,
        open: (File) -> Recommender = { Recommender.load(it) },
        onEvent: (SyncEvent) -> Unit = {},
    ): SyncClient =
        SyncClient(targets, store(store), channel, mode, fetcher, conditions, onEvent, limits, runtime, open)
            .also { clients += it }

    /** A device with a release, and the one before it if there is one, when release 3 is out. */
    fun behind(release: Long = 2, store: String = "store"): SyncClient {
        for (number in maxOf(1, release - 1)..release) {
            signed.newest = number
            client(store).refresh()
        }
        signed.newest = 3
        server.requests.clear()
        return client(store)
    }

    /** The release that a device recommends from without a network; null if it does not recommend. */
    fun recommended(store: String = "store"): Long? {
        val noTargets = TrustedTargets { throw AssertionError("the repository was contacted") }
        val noFetcher = Fetcher { _, _ -> throw AssertionError("the server was contacted") }
        client(store, SyncMode.LOCAL, targets = noTargets, fetcher = noFetcher).use { client ->
            val found = itemsOf(client.recommender())
            return (1L..3L).singleOrNull { Vectors.items(it) == found }
        }
    }

    override fun close() {
        clients.forEach { it.close() }
        server.close()
    }
}

fun itemsOf(live: LiveRecommender): Set<String> = live.recommend(emptyList(), 1000).items.map { it.itemId }.toSet()

/** Tests with a world of their own. It is made on first use, so that a test without vectors is skipped. */
abstract class InWorld {
    @TempDir lateinit var folder: File
    private val made = lazy { World(folder) }
    protected val world by made

    @AfterEach fun leave() {
        if (made.isInitialized()) world.close()
    }
}
