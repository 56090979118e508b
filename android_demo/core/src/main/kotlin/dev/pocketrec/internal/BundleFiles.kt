package dev.pocketrec.internal

/** The manifest of a bundle. */
@PocketRecInternal
const val MANIFEST_FILE = "manifest.json"

/** The catalogue of a bundle. */
@PocketRecInternal
const val TRIE_FILE = "trie.safetensors"

/** A larger manifest is refused before it is read. */
@PocketRecInternal
const val MAX_MANIFEST_BYTES = 1 shl 20

private val FILE_NAME = Regex("[A-Za-z0-9](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")

/** Whether a bundle may have a file of this name: letters, digits, dots, dashes and underscores, and no path. */
@PocketRecInternal
fun isFileName(name: String): Boolean = FILE_NAME.matches(name)
