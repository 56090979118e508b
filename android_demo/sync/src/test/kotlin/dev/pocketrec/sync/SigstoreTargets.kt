package dev.pocketrec.sync

import com.google.gson.JsonObject
import dev.sigstore.json.JsonParseException
import dev.sigstore.tuf.FileExceedsMaxLengthException
import dev.sigstore.tuf.FileSystemTufStore
import dev.sigstore.tuf.MetaFetcher
import dev.sigstore.tuf.TrustedMetaStore
import dev.sigstore.tuf.TufException
import dev.sigstore.tuf.Updater
import java.io.ByteArrayOutputStream
import java.io.File
import java.io.IOException
import java.time.Clock

/**
 * [TrustedTargets] by sigstore-java's TUF client, as tried in docs/decisions/0016. It reads a repository only if every
 * `custom` object also has a `sigstore` field.
 */
class SigstoreTargets(
    private val url: String,
    private val root: String,
    private val folder: File,
    private val clock: Clock = Clock.systemUTC(),
    private val fetcher: Fetcher = HttpFetcher(),
) : TrustedTargets {
    override fun refresh(): List<TargetInfo> {
        folder.mkdirs()
        val store = TrustedMetaStore.newTrustedMetaStore(FileSystemTufStore.newFileSystemStore(folder.toPath()))
        val metadata = MetadataFetcher("$url/metadata/", fetcher)
        val updater = Updater.builder().setClock(clock).setTrustedRootPath { root }.setTrustedMetaStore(store)
            .setMetaFetcher(MetaFetcher.newFetcher(metadata)).setTargetFetcher(metadata).build()
        try {
            updater.updateMeta()
            refuseExpired(store)
        } catch (error: TufException) {
            throw TrustException("the repository is not trusted (${error.message}); nothing was changed", error)
        } catch (error: JsonParseException) {
            throw TrustException("the metadata is malformed (${error.message}); nothing was changed", error)
        }
        val targets = store.targets.rawSignedMeta.asJsonObject.getAsJsonObject("targets")
        return targets.entrySet().map { (path, target) -> info(path, target.asJsonObject) }
    }

    /** The updater checks the expiry of new metadata only: it would accept metadata that it has seen once for ever. */
    private fun refuseExpired(store: TrustedMetaStore) {
        val now = clock.instant()
        val signed = listOf(store.root, store.timestamp, store.snapshot, store.targets)
        val isExpired = signed.any { it.signedMeta.expiresAsDate.toInstant() <= now }
        if (isExpired) throw TrustException("the repository's metadata has expired")
    }

    private fun info(path: String, target: JsonObject): TargetInfo {
        val sha256 = target.getAsJsonObject("hashes").get("sha256").asString
        return TargetInfo(
            path,
            target.get("length").asLong,
            sha256,
            TargetInfo.address(url, path, sha256),
            target.get("custom")?.toString(),
        )
    }

    /** Our fetcher behind the updater's interface: null if there is no such file. */
    private class MetadataFetcher(private val base: String, private val fetcher: Fetcher) : dev.sigstore.tuf.Fetcher {
        override fun getSource() = base

        override fun fetchResource(name: String, limit: Int): ByteArray? {
            fetcher.fetch(base + name, 0).use { response ->
                if (response.status == 404 || response.status == 403) return null
                if (response.status != 200) throw IOException("HTTP ${response.status} for $name")
                val received = ByteArrayOutputStream()
                val buffer = ByteArray(1 shl 16)
                while (true) {
                    val size = response.bytes.read(buffer)
                    if (size < 0) return received.toByteArray()
                    received.write(buffer, 0, size)
                    if (received.size() > limit) throw FileExceedsMaxLengthException(base + name, limit)
                }
            }
        }
    }
}
