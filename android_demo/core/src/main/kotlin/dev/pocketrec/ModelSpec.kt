package dev.pocketrec

internal const val MODEL_KIND = "llama-sid" // the student: a token per item, a decoder of semantic IDs
internal const val TOKENS_KIND = "llama-tokens" // a converted causal Llama: a token per code

private const val MAX_WIDTH = 1L shl 18
private const val MAX_LAYERS = 1L shl 10
private const val MAX_HEADS = 1L shl 10
private const val MAX_HISTORY = 1L shl 16
private const val MAX_BEAM = 1L shl 14 // the search allocates this many prefixes
private const val MAX_PAIR_CODES = 1L shl 12 // the pair table has the square of it rows

/**
 * Shape of the model and of its search.
 *
 * @property sidSpace hash of the codebooks
 * @property levels codes in a semantic ID
 * @property codes codes per level
 * @property maxHistory number of last history items that the model reads
 * @property beam default beam width
 * @property maxBranch largest number of children of a node that the graph takes, by depth
 * @property vocab number of tokens of a "llama-tokens" model; else 0
 * @property prompt tokens that a "llama-tokens" model reads before the history; else 0
 * @property blocks number of layers with weights of their own: layer i uses block i % blocks; 0: all layers
 */
class ModelSpec internal constructor(
    val kind: String,
    val sidSpace: String,
    val levels: Int,
    val codes: Int,
    val maxHistory: Int,
    val beam: Int,
    val maxBranch: List<Int>,
    val dim: Int,
    val layers: Int,
    val heads: Int,
    val kvHeads: Int,
    val headDim: Int,
    val ffn: Int,
    val decoderDim: Int,
    val pairDim: Int,
    val ropeTheta: Double,
    val normEps: Double,
    val parameters: Long,
    val quantization: String,
    val vocab: Int,
    val prompt: Int,
    val blocks: Int,
) {
    internal companion object {
        fun parse(fields: Fields): ModelSpec {
            val kind = fields.text("kind")
            if (kind != MODEL_KIND && kind != TOKENS_KIND) {
                throw BundleException(
                    "the model is of kind ${quote(kind)}, and this pocketrec runs ${quote(MODEL_KIND)} and " +
                        "${quote(TOKENS_KIND)}; update pocketrec",
                )
            }
            val tokens = kind == TOKENS_KIND
            val levels = fields.count("levels", 1, MAX_LEVELS)
            val codes = fields.count("codes", 1, MAX_CODES)
            val widestPair = if (tokens || codes > MAX_PAIR_CODES) 0L else MAX_WIDTH
            val decoder = if (tokens) 0L..0L else 1L..MAX_WIDTH
            val spec = ModelSpec(
                kind = kind,
                sidSpace = fields.text("sid_space"),
                levels = levels,
                codes = codes,
                maxBranch = fields.integers("max_branch", levels, 1, codes.toLong()),
                ropeTheta = fields.number("rope_theta"),
                normEps = fields.number("norm_eps"),
                parameters = fields.integer("parameters", 1, 1L shl 40),
                decoderDim = fields.count("decoder_dim", decoder.first, decoder.last),
                pairDim = fields.count("pair_dim", 0, widestPair),
                vocab = if (tokens) fields.count("vocab", 1) else 0,
                prompt = if (tokens) fields.count("prompt", 0, MAX_HISTORY) else 0,
                quantization = if ("quantization" in fields.data) fields.text("quantization") else "none",
                blocks = if ("blocks" in fields.data) fields.count("blocks", 0, MAX_LAYERS) else 0,
                maxHistory = fields.count("max_history", 1, MAX_HISTORY),
                beam = fields.count("beam", 1, MAX_BEAM),
                dim = fields.count("dim", 1, MAX_WIDTH),
                layers = fields.count("layers", 1, MAX_LAYERS),
                heads = fields.count("heads", 1, MAX_HEADS),
                kvHeads = fields.count("kv_heads", 1, MAX_HEADS),
                headDim = fields.count("head_dim", 1, MAX_WIDTH),
                ffn = fields.count("ffn", 1, MAX_WIDTH),
            )
            if (spec.heads % spec.kvHeads != 0) fields.refuse("kv_heads", "a divisor of heads, ${spec.heads},")
            if (spec.headDim % 2 != 0) fields.refuse("head_dim", "an even number")
            if (spec.blocks > spec.layers) fields.refuse("blocks", "at most the number of layers, ${spec.layers},")
            return spec
        }
    }
}
