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
 * The proof in docs/decisions/0016: sigstore-java's TUF client behind [TrustedTargets], on a JVM. It reads a repository only if
 * every `custom` object holds a `sigstore` field, too.
 */
class SigstoreTargets(
    private val url: String,
    private val root: String,
    private val folder: File,
    private val clock: Clock = Clock.systemUTC(),
    private val line: Fetcher = HttpFetcher(),
) : TrustedTargets {
    override fun refresh(): List<TargetInfo> {
        folder.mkdirs()
        val store = TrustedMetaStore.newTrustedMetaStore(FileSystemTufStore.newFileSystemStore(folder.toPath()))
        val metadata = Lines("$url/metadata/", line)
        val updater = Updater.builder().setClock(clock).setTrustedRootPath { root }.setTrustedMetaStore(store)
            .setMetaFetcher(MetaFetcher.newFetcher(metadata)).setTargetFetcher(metadata).build()
        try {
            updater.updateMeta()
            refuseExpired(store)
        } catch (error: TufException) {
            throw TrustException("the repository is not to be believed (${error.message}); nothing was changed", error)
        } catch (error: JsonParseException) {
            throw TrustException("the metadata is malformed (${error.message}); nothing was changed", error)
        }
        val targets = store.targets.rawSignedMeta.asJsonObject.getAsJsonObject("targets")
        return targets.entrySet().map { (path, target) -> info(path, target.asJsonObject) }
    }

    /** The updater looks at the expiry of what is new alone: what it was shown once, it would accept for ever. */
    private fun refuseExpired(store: TrustedMetaStore) {
        val now = clock.instant()
        val signed = listOf(store.root, store.timestamp, store.snapshot, store.targets)
        val isOld = signed.any { it.signedMeta.expiresAsDate.toInstant() <= now }
        if (isOld) throw TrustException("the repository's metadata has expired")
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

    /** Our line in the shape that the updater asks for: null where there is no such file. */
    private class Lines(private val base: String, private val line: Fetcher) : dev.sigstore.tuf.Fetcher {
        override fun getSource() = base

        override fun fetchResource(name: String, most: Int): ByteArray? = line.ask(base + name, 0).use { answer ->
            if (answer.status == 404 || answer.status == 403) return null
            if (answer.status != 200) throw IOException("HTTP ${answer.status} for $name")
            val got = ByteArrayOutputStream()
            answer.bytes.forEachPiece { piece, size ->
                got.write(piece, 0, size)
                if (got.size() > most) throw FileExceedsMaxLengthException(base + name, most)
            }
            got.toByteArray()
        }
    }
}
