package dev.pocketrec

internal const val MANIFEST_FILE = "manifest.json"
internal const val TRIE_FILE = "trie.safetensors"
internal const val COLD_FILE = "cold_items.safetensors"
internal const val MAX_MANIFEST_BYTES = 1 shl 20
internal const val MAX_FILE_BYTES = 1L shl 31
internal const val MAX_LEVELS = 8L
internal const val MAX_CODES = 1L shl 16
internal const val REMEDY = "fetch the bundle again or re-export it"

private const val SCHEMA_VERSION = 2L
private const val MAX_FILES = 64
private val FILE_NAME = Regex("[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
private val SHA256 = Regex("[0-9a-f]{64}")

/** What a file must be: its SHA-256 (64 lower-case hex digits) and its size. */
class FileEntry internal constructor(val sha256: String, val bytes: Long)

/** The catalogue that the bundle's trie holds. */
class CatalogueSpec internal constructor(val items: Int, val sidSpace: String)

/**
 * A bundle's table of contents, checked: every field has the right type and a sane value.
 *
 * [files] by name; [graphs]: role to file name; [provenance] and [metrics]: free JSON, numbers as Long or Double.
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
                if (!FILE_NAME.matches(name) || name.lowercase() == MANIFEST_FILE) {
                    throw BundleException(
                        "$MANIFEST_FILE lists a file ${quote(name.take(256))}, which is no plain name; $REMEDY",
                    )
                }
                val entry = fields.fields(name)
                val digest = entry.text("sha256")
                if (!SHA256.matches(digest)) entry.refuse("sha256", "64 lower-case hex digits")
                FileEntry(digest, entry.integer("bytes", 0, MAX_FILE_BYTES))
            }
        }
    }
}
