package dev.pocketrec.sync

import dev.pocketrec.internal.MANIFEST_FILE
import dev.pocketrec.internal.isFileName
import dev.pocketrec.internal.isSha256
import dev.pocketrec.internal.sha256
import java.math.BigInteger

/*
 * Releases in a signed repository. Their files are targets named `<channel>/<release>/<file>`. The target of the
 * manifest carries signed data by which a device chooses a release. A patch is one more target, named
 * `<channel>/<release>/<file>.from-<first 16 hex digits of the base's SHA-256>.zst`.
 */

private const val SCHEMA = 1L
private const val BASE_DIGITS = 16
private const val MILLION = 1_000_000L
private const val MAX_RELEASE = (1L shl 53) - 1

private val CHANNEL = Regex("[a-z][a-z0-9-]{0,31}")
private val NUMBER = Regex("[1-9][0-9]{0,15}")
private val VERSION = Regex("(0|[1-9][0-9]{0,5})(\\.(0|[1-9][0-9]{0,5})){0,3}")
private val LEADING_NUMBERS = Regex("^[0-9]+(\\.[0-9]+)*")

/** The parts of a target's name. */
internal data class TargetName(val channel: String, val release: Long, val file: String)

/** The signed data of a release. */
internal data class ReleaseInfo(
    val channel: String,
    val release: Long,
    val model: String,
    val sidSpace: String,
    val minimumRuntime: String,
    val perMillion: Long,
) {
    /** Whether a device is in the share that may take this release. A larger share includes the smaller ones. */
    fun allows(device: String): Boolean {
        val digest = sha256("$device/$channel/$release".toByteArray())
        val drawn = BigInteger(1, digest.copyOf(6)).toDouble()
        return drawn < perMillion / MILLION.toDouble() * (1L shl 48)
    }
}

/** A release that this device may take, with its signed files by name. */
internal data class Release(val info: ReleaseInfo, val manifest: TargetInfo, val files: Map<String, TargetInfo>) {
    /** The name of the version in the store. */
    val name = "${info.channel}-${info.release}-${manifest.sha256.take(16)}"

    /** The patch that makes a file from its older version with a hash. */
    fun patchFrom(file: String, sha256: String): TargetInfo? = files["$file.from-${sha256.take(BASE_DIGITS)}.zst"]
}

internal fun checkChannel(channel: String): String {
    if (CHANNEL.matches(channel)) return channel
    val rule = "use lower-case letters, digits and dashes, such as stable"
    throw SyncException("'${channel.take(60)}' is not a channel name; $rule")
}

/** The parts of a target's name; null if it has another form. */
internal fun splitPath(path: String): TargetName? {
    val parts = path.split('/')
    if (parts.size != 3 || !CHANNEL.matches(parts[0]) || !NUMBER.matches(parts[1])) return null
    val release = parts[1].toLong()
    return if (isFileName(parts[2]) && release <= MAX_RELEASE) TargetName(parts[0], release, parts[2]) else null
}

/** Reads the signed data of a release. `path`: name of the target; `custom`: JSON of its custom object. */
internal fun parseInfo(path: String, custom: String?): ReleaseInfo {
    val fields = custom?.let(::jsonObject)?.objectAt("pocketrec")
        ?: throw SyncException("$path has no release data; publish it with `pocketrec publish`")
    fun wrong(field: String, rule: String) =
        SyncException("$path: $field is ${fields.get(field).toString().take(40)}; $rule")
    if (fields.count("schema") != SCHEMA) throw wrong("schema", "this pocketrec reads $SCHEMA")
    val named = splitPath(path)
    if (named == null || fields.text("channel") != named.channel || fields.count("release") != named.release) {
        throw SyncException("$path has the data of another release")
    }
    val model = fields.text("model")?.takeIf(::isSha256) ?: throw wrong("model", "it must be 64 hex digits")
    val space = fields.text("sid_space")?.takeIf { it.length in 1..256 }
        ?: throw wrong("sid_space", "it must be a short text")
    val minimum = fields.text("minimum_runtime")?.takeIf(VERSION::matches)
        ?: throw wrong("minimum_runtime", "it must be like 0.3")
    val share = fields.count("per_million")?.takeIf { it <= MILLION }
        ?: throw wrong("per_million", "it must be from 0 to $MILLION")
    return ReleaseInfo(named.channel, named.release, model, space, minimum, share)
}

/** Whether a runtime version is at least the minimum. Suffixes, as in 0.3.dev1, are ignored. */
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

/** Refuses targets that verified metadata cannot contain, in case an implementation of [TrustedTargets] is careless. */
internal fun checkTargets(targets: List<TargetInfo>): List<TargetInfo> {
    val paths = HashSet<String>()
    for (target in targets) {
        if (target.length < 0 || !isSha256(target.sha256)) {
            val remedy = "publish it with `pocketrec publish`"
            throw TrustException("${target.path} is signed without a length or a SHA-256; $remedy")
        }
        if (!paths.add(target.path)) {
            throw TrustException("${target.path} is listed twice; the repository is not trusted")
        }
    }
    return targets
}

/** The releases of a channel that the device may take, can open and has not found bad, newest first. */
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
        val isUsable = info.allows(state.device) && runtimeOpens(info.minimumRuntime, runtime)
        if (isUsable && state.bad[manifest.sha256] != runtime) Release(info, manifest, files) else null
    }
}
