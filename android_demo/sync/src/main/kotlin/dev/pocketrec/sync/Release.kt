package dev.pocketrec.sync

import java.math.BigInteger

/*
 * What a release is in the signed repository. Its files are targets named `<channel>/<release>/<file>`; the target of
 * the manifest carries, signed, what a device must know to choose. A patch is one more target,
 * `<channel>/<release>/<file>.from-<first 16 hex digits of the base's SHA-256>.zst`.
 */

internal const val MANIFEST_FILE = "manifest.json"
internal const val TRIE_FILE = "trie.safetensors"
private const val SCHEMA = 1L
private const val BASE_DIGITS = 16
private const val MILLION = 1_000_000L
private const val MAX_RELEASE = (1L shl 53) - 1

private val CHANNEL = Regex("[a-z][a-z0-9-]{0,31}")
private val FILE_NAME = Regex("[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
private val NUMBER = Regex("[1-9][0-9]{0,15}")
private val SHA256 = Regex("[0-9a-f]{64}")
private val VERSION = Regex("(0|[1-9][0-9]{0,5})(\\.(0|[1-9][0-9]{0,5})){0,3}")
private val LEADING_NUMBERS = Regex("^[0-9]+(\\.[0-9]+)*")

/** A target's name, taken apart. */
internal data class TargetName(val channel: String, val release: Long, val file: String)

/** What is signed beside the manifest of a release. */
internal data class ReleaseInfo(
    val channel: String,
    val release: Long,
    val model: String,
    val sidSpace: String,
    val minimumRuntime: String,
    val perMillion: Long,
) {
    /** Whether a device is among the share that may have this release; a larger share keeps those it had. */
    fun allows(device: String): Boolean {
        val digest = sha256("$device/$channel/$release".toByteArray())
        val drawn = BigInteger(1, digest.copyOf(6)).toDouble()
        return drawn < perMillion / MILLION.toDouble() * (1L shl 48)
    }
}

/** A release that this device may have, and what is signed for its files. */
internal data class Release(val info: ReleaseInfo, val manifest: TargetInfo, val files: Map<String, TargetInfo>) {
    /** The version's name in the store. */
    val name = "${info.channel}-${info.release}-${manifest.sha256.take(16)}"

    /** What makes the new catalogue out of one with a hash. */
    fun patchFrom(sha256: String): TargetInfo? = files["$TRIE_FILE.from-${sha256.take(BASE_DIGITS)}.zst"]
}

internal fun checkChannel(channel: String): String {
    if (CHANNEL.matches(channel)) return channel
    throw SyncException("'${channel.take(60)}' is no channel; use lower-case letters, digits and dashes, as in stable")
}

/** Channel, release and file of a target's name; null if it is not of this form. */
internal fun splitPath(path: String): TargetName? {
    val parts = path.split('/')
    if (parts.size != 3 || !CHANNEL.matches(parts[0]) || !NUMBER.matches(parts[1])) return null
    val release = parts[1].toLong()
    return if (FILE_NAME.matches(parts[2]) && release <= MAX_RELEASE) TargetName(parts[0], release, parts[2]) else null
}

/** Read what is signed beside a manifest. */
internal fun parseInfo(path: String, custom: String?): ReleaseInfo {
    val fields = custom?.let(::jsonObject)?.objectAt("pocketrec")
        ?: throw SyncException("$path has no release data; publish it with pocketrec")
    fun wrong(field: String, rule: String) =
        SyncException("$path: $field is ${fields.get(field).toString().take(40)}; $rule")
    if (fields.count("schema") != SCHEMA) throw wrong("schema", "this pocketrec reads $SCHEMA")
    val named = splitPath(path)
    if (named == null || fields.text("channel") != named.channel || fields.count("release") != named.release) {
        throw SyncException("$path carries the data of another release")
    }
    val model = fields.text("model")?.takeIf(SHA256::matches) ?: throw wrong("model", "it must be 64 hex digits")
    val space = fields.text("sid_space")?.takeIf { it.length in 1..256 }
        ?: throw wrong("sid_space", "it must be a short text")
    val least = fields.text("minimum_runtime")?.takeIf(VERSION::matches)
        ?: throw wrong("minimum_runtime", "it must be like 0.3")
    val share = fields.count("per_million")?.takeIf { it <= MILLION }
        ?: throw wrong("per_million", "it must be from 0 to $MILLION")
    return ReleaseInfo(named.channel, named.release, model, space, least, share)
}

/** Whether a runtime of a version opens a release; what follows the numbers, as in 0.3.dev1, does not count. */
internal fun runtimeOpens(minimum: String, version: String): Boolean {
    val (least, have) = listOf(minimum, version).map { text ->
        LEADING_NUMBERS.find(text)?.value.orEmpty().split('.').map { it.toLongOrNull() ?: 0 }
    }
    for (place in 0 until maxOf(least.size, have.size)) {
        val order = (have.getOrElse(place) { 0 }).compareTo(least.getOrElse(place) { 0 })
        if (order != 0) return order > 0
    }
    return true
}

/** Refuse an answer that no verified metadata can give: the last fence against a careless implementation. */
internal fun checkTargets(targets: List<TargetInfo>): List<TargetInfo> {
    val seen = HashSet<String>()
    for (target in targets) {
        if (target.length < 0 || !SHA256.matches(target.sha256)) {
            throw TrustException("${target.path} is signed without a length or a SHA-256; publish it with pocketrec")
        }
        if (!seen.add(target.path)) throw TrustException("${target.path} is listed twice; it cannot be genuine")
    }
    return targets
}

/** Releases of a channel that the device may have, can open, and has not found bad, the greatest first. */
internal fun candidates(targets: List<TargetInfo>, channel: String, state: State, runtime: String): Sequence<Release> {
    val byRelease = HashMap<Long, HashMap<String, TargetInfo>>()
    for (target in targets) {
        val named = splitPath(target.path)?.takeIf { it.channel == channel } ?: continue
        byRelease.getOrPut(named.release) { HashMap() }[named.file] = target
    }
    return byRelease.keys.sortedDescending().asSequence().mapNotNull { number ->
        val files = byRelease.getValue(number)
        val manifest = files[MANIFEST_FILE] ?: return@mapNotNull null
        val info = parseInfo(manifest.path, manifest.custom)
        val may = info.allows(state.device) && runtimeOpens(info.minimumRuntime, runtime)
        if (may && state.bad[manifest.sha256] != runtime) Release(info, manifest, files) else null
    }
}
