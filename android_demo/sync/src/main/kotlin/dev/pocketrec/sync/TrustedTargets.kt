package dev.pocketrec.sync

/**
 * What is signed now, by all rules of The Update Framework. This module decides nothing about signatures: an
 * implementation hands over verified answers alone (see docs/decisions/0016-trust-on-the-jvm.md), and throws otherwise.
 */
fun interface TrustedTargets {
    /**
     * Bring the signed metadata up to date and return every target of the top-level targets role.
     *
     * @throws TrustException if the metadata is not to be believed or has expired
     * @throws LineException if the line failed
     * @throws StoreException if what is known cannot be kept
     */
    fun refresh(): List<TargetInfo>
}

/**
 * A target, as it is signed.
 *
 * @property path its name, such as `stable/7/trie.safetensors`
 * @property length its exact bytes
 * @property sha256 64 lower-case hex digits
 * @property url where it lies; not signed and not trusted, since every byte is checked
 * @property custom the JSON text of its `custom` object, as signed; null if there is none
 */
data class TargetInfo @JvmOverloads constructor(
    val path: String,
    val length: Long,
    val sha256: String,
    val url: String,
    val custom: String? = null,
) {
    companion object {
        /** Where a repository with consistent snapshots keeps a target: the hash goes before the file's name. */
        @JvmStatic
        fun address(repository: String, path: String, sha256: String): String {
            val folder = path.substringBeforeLast('/', "")
            val slash = if (folder.isEmpty()) "" else "/"
            return "${repository.trimEnd('/')}/targets/$folder$slash$sha256.${path.substringAfterLast('/')}"
        }
    }
}
