package dev.pocketrec

internal const val MANIFEST_FILE = "manifest.json"
internal const val TRIE_FILE = "trie.safetensors"
internal const val COLD_FILE = "cold_items.safetensors"
internal const val MODEL_KIND = "llama-sid"
internal const val TOKENS_KIND = "llama-tokens"
internal const val MAX_MANIFEST_BYTES = 1 shl 20
internal const val MAX_FILE_BYTES = 1L shl 31
internal const val MAX_LEVELS = 8L
internal const val MAX_CODES = 1L shl 16
internal const val REMEDY = "fetch the bundle again or re-export it"

private const val SCHEMA_VERSION = 1L
private const val MAX_FILES = 64
private const val MAX_WIDTH = 1L shl 18
private const val MAX_LAYERS = 1L shl 10
private const val MAX_HEADS = 1L shl 10
private const val MAX_HISTORY = 1L shl 16
private const val MAX_BEAM = 1L shl 14
private const val MAX_PAIR_CODES = 1L shl 12
private val FILE_NAME = Regex("[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
private val SHA256 = Regex("[0-9a-f]{64}")

/** Shape of the model and of its search. */
class ModelSpec internal constructor(
    val kind: String,
    val sidSpace: String,
    val levels: Int,
    val codes: Int,
    val maxHistory: Int,
    val beam: Int,
    val maxBranch: List<Int>,
    val layers: Int,
    val kvHeads: Int,
    val headDim: Int,
    val parameters: Long,
    val quantization: String,
    val prompt: Int,
)

/** What a file must be: its SHA-256 (64 lower-case hex digits) and its size. */
class FileEntry internal constructor(val sha256: String, val bytes: Long)

/** A bundle's table of contents, checked: every field has the right type and a sane value. */
class Manifest internal constructor(
    val model: ModelSpec,
    val items: Int,
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
                throw BundleException(
                    "$MANIFEST_FILE has schema_version $version, and this pocketrec reads $SCHEMA_VERSION; " +
                        "update pocketrec or export the bundle for this version",
                )
            }
            val files = files(top.fields("files"))
            val roles = top.fields("graphs")
            val graphs = roles.data.keys.associateWith { roles.text(it) }
            val model = model(top.fields("model"))
            val catalogue = top.fields("catalogue")
            val items = catalogue.integer("items", 0).toInt()
            val space = catalogue.text("sid_space")
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
            if (space != model.sidSpace) {
                throw BundleException(
                    "$MANIFEST_FILE: the catalogue's sid_space ${quote(space)} is not the model's " +
                        "${quote(model.sidSpace)}; re-export or re-publish both from the same codebooks",
                )
            }
            return Manifest(model, items, files, graphs, provenance, metrics)
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

        private fun model(fields: Fields): ModelSpec {
            val kind = fields.text("kind")
            if (kind != MODEL_KIND && kind != TOKENS_KIND) {
                throw BundleException(
                    "the model is of kind ${quote(kind)}, and this pocketrec runs ${quote(MODEL_KIND)} and " +
                        "${quote(TOKENS_KIND)}; update pocketrec",
                )
            }
            val tokens = kind == TOKENS_KIND
            val levels = fields.integer("levels", 1, MAX_LEVELS)
            val codes = fields.integer("codes", 1, MAX_CODES)
            val widestPair = if (tokens || codes > MAX_PAIR_CODES) 0L else MAX_WIDTH
            fields.number("rope_theta")
            fields.number("norm_eps")
            if (tokens) fields.integer("decoder_dim", 0, 0) else fields.integer("decoder_dim", 1, MAX_WIDTH)
            fields.integer("pair_dim", 0, widestPair)
            if (tokens) fields.integer("vocab", 1)
            fields.integer("dim", 1, MAX_WIDTH)
            fields.integer("ffn", 1, MAX_WIDTH)
            val blocks = if ("blocks" in fields.data) fields.integer("blocks", 0, MAX_LAYERS) else 0L
            val layers = fields.integer("layers", 1, MAX_LAYERS)
            val heads = fields.integer("heads", 1, MAX_HEADS)
            val kvHeads = fields.integer("kv_heads", 1, MAX_HEADS)
            val headDim = fields.integer("head_dim", 1, MAX_WIDTH)
            val spec = ModelSpec(
                kind = kind,
                sidSpace = fields.text("sid_space"),
                levels = levels.toInt(),
                codes = codes.toInt(),
                maxHistory = fields.integer("max_history", 1, MAX_HISTORY).toInt(),
                beam = fields.integer("beam", 1, MAX_BEAM).toInt(),
                maxBranch = fields.integers("max_branch", levels.toInt(), 1, codes),
                layers = layers.toInt(),
                kvHeads = kvHeads.toInt(),
                headDim = headDim.toInt(),
                parameters = fields.integer("parameters", 1, 1L shl 40),
                quantization = if ("quantization" in fields.data) fields.text("quantization") else "none",
                prompt = if (tokens) fields.integer("prompt", 0, MAX_HISTORY).toInt() else 0,
            )
            if (heads % kvHeads != 0L) fields.refuse("kv_heads", "a divisor of heads, $heads,")
            if (headDim % 2 != 0L) fields.refuse("head_dim", "an even number")
            if (blocks > layers) fields.refuse("blocks", "at most the number of layers, $layers,")
            return spec
        }
    }
}
