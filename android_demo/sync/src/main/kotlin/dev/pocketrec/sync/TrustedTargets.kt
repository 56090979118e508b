package dev.pocketrec.sync

/**
 * Gives the targets that are signed now, by the rules of The Update Framework. This module does not check signatures:
 * an implementation returns verified targets only, or throws (see docs/decisions/0016-trust-on-the-jvm.md).
 */
fun interface TrustedTargets {
    /**
     * Updates the signed metadata and returns every target of the top-level targets role.
     *
     * @throws TrustException if the metadata is not trusted or has expired
     * @throws NetworkException if the network failed
     * @throws StoreException if the metadata cannot be saved
     */
    fun refresh(): List<TargetInfo>
}

/**
 * A signed target.
 *
 * @property path its name, such as `stable/7/trie.safetensors`
 * @property length its length in bytes
 * @property sha256 64 lower-case hex digits
 * @property url where to fetch it; not signed, and not trusted, since every byte is checked
 * @property custom the JSON text of its signed `custom` object; null if there is none
 */
data class TargetInfo @JvmOverloads constructor(
    val path: String,
    val length: Long,
    val sha256: String,
    val url: String,
    val custom: String? = null,
) {
    companion object {
        /** The URL of a target in a repository with consistent snapshots: the hash comes before the file name. */
        @JvmStatic
        fun address(repository: String, path: String, sha256: String): String {
            val folder = path.substringBeforeLast('/', "")
            val slash = if (folder.isEmpty()) "" else "/"
            return "${repository.trimEnd('/')}/targets/$folder$slash$sha256.${path.substringAfterLast('/')}"
        }
    }
}
