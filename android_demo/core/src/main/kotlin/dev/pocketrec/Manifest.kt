package dev.pocketrec

import dev.pocketrec.internal.Fault
import dev.pocketrec.internal.MANIFEST_FILE
import dev.pocketrec.internal.MAX_MANIFEST_BYTES
import dev.pocketrec.internal.StrictJson
import dev.pocketrec.internal.TRIE_FILE
import dev.pocketrec.internal.isFileName
import dev.pocketrec.internal.isSha256

internal const val COLD_FILE = "cold_items.safetensors"
internal const val GRAPH_FILE = "graph.safetensors"
internal const val WORDS_FILE = "words.safetensors"
internal val REFRESHED_FILES = setOf(TRIE_FILE, COLD_FILE, GRAPH_FILE, WORDS_FILE) // not of the model
internal const val MAX_FILE_BYTES = 1L shl 31
internal const val MAX_LEVELS = 8L
internal const val MAX_CODES = 1L shl 16
internal const val REMEDY = "fetch the bundle again or re-export it"

private const val SCHEMA_VERSION = 2L
private const val MAX_FILES = 64

/** A file as the manifest lists it: SHA-256 (64 lower-case hex digits) and size. */
class FileEntry internal constructor(val sha256: String, val bytes: Long)

/** The catalogue in the bundle's trie: number of items, and the hash of the codebooks. */
class CatalogueSpec internal constructor(val items: Int, val sidSpace: String)

/**
 * The manifest of a bundle. Every field was checked for its type and range.
 *
 * @property files by name
 * @property graphs file name by role ("recommender", "encoder", "search")
 * @property provenance JSON, numbers as Long or Double
 * @property metrics JSON, numbers as Long or Double
 */
class Manifest internal constructor(
    val schemaVersion: Int,
    val model: ModelSpec,
    val catalogue: CatalogueSpec,
    val files: Map<String, FileEntry>,
    val graphs: Map<String, String>,
    val provenance: Map<String, Any?>,
    val metrics: Map<String, Any?>,
) {
    internal companion object {
        fun parse(content: ByteArray): Manifest {
            if (content.size > MAX_MANIFEST_BYTES) {
                throw BundleException("$MANIFEST_FILE is over the limit of $MAX_MANIFEST_BYTES bytes; $REMEDY")
            }
            val top = try {
                Fields.of(StrictJson.parse(content), "")
            } catch (fault: Fault) {
                throw BundleException("$MANIFEST_FILE is not valid JSON (${fault.message}); $REMEDY", fault)
            }
            val version = top.integer("schema_version", 1)
            if (version != SCHEMA_VERSION) {
                val remedy = if (version < SCHEMA_VERSION) "export the bundle again" else "update pocketrec"
                throw BundleException(
                    "$MANIFEST_FILE has schema_version $version, and this pocketrec reads $SCHEMA_VERSION; $remedy",
                )
            }
            val files = files(top.fields("files"))
            val roles = top.fields("graphs")
            val graphs = roles.data.keys.associateWith { roles.text(it) }
            val model = ModelSpec.parse(top.fields("model"))
            val catalogue = top.fields("catalogue").let {
                CatalogueSpec(it.integer("items", 0).toInt(), it.text("sid_space"))
            }
            val provenance = top.fields("provenance").data
            val metrics = top.fields("metrics").data
            if ("gates" in top.data) top.objects("gates")
            val needed = listOf("the trie" to TRIE_FILE) + graphs.map { (role, name) -> "graph ${quote(role)}" to name }
            for ((what, name) in needed) {
                if (name !in files) {
                    throw BundleException(
                        "$MANIFEST_FILE does not list ${quote(name)} ($what) among its files; $REMEDY",
                    )
                }
            }
            if (catalogue.sidSpace != model.sidSpace) {
                throw BundleException(
                    "$MANIFEST_FILE: the catalogue's sid_space ${quote(catalogue.sidSpace)} is not the model's " +
                        "${quote(model.sidSpace)}; re-export or re-publish both from the same codebooks",
                )
            }
            return Manifest(version.toInt(), model, catalogue, files, graphs, provenance, metrics)
        }

        private fun files(fields: Fields): Map<String, FileEntry> {
            if (fields.data.size > MAX_FILES) {
                throw BundleException(
                    "$MANIFEST_FILE lists ${fields.data.size} files, over the limit of $MAX_FILES; $REMEDY",
                )
            }
            return fields.data.keys.associateWith { name ->
                if (!isFileName(name) || name.lowercase() == MANIFEST_FILE) {
                    throw BundleException(
                        "$MANIFEST_FILE lists a file ${quote(name.take(256))}, which is not a plain file name; $REMEDY",
                    )
                }
                val entry = fields.fields(name)
                val digest = entry.text("sha256")
                if (!isSha256(digest)) entry.refuse("sha256", "64 lower-case hex digits")
                FileEntry(digest, entry.integer("bytes", 0, MAX_FILE_BYTES))
            }
        }
    }
}
