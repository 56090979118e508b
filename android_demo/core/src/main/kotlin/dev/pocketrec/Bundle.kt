package dev.pocketrec

import java.io.File
import java.io.FileInputStream
import java.io.IOException
import java.security.MessageDigest

/** A bundle whose files were all found to be what its manifest says. */
class Bundle private constructor(val folder: File, val manifest: Manifest, private val checked: Map<String, Long>) {
    /** Bytes of all its files. */
    val bytes: Long = manifest.files.values.sumOf { it.bytes }

    /** What names the model: a hash of its files' hashes, the catalogue's and the model card aside. */
    val modelId: String by lazy {
        val files = manifest.files.filterKeys { it != TRIE_FILE && it != COLD_FILE && !it.endsWith(".md") }
        val text = StringBuilder("[")
        for ((name, entry) in files.toSortedMap()) {
            if (text.length > 1) text.append(", ")
            text.append('[')
            StrictJson.ascii(name, text)
            text.append(", ")
            StrictJson.ascii(entry.sha256, text)
            text.append(']')
        }
        sha256(text.append(']').toString().toByteArray(Charsets.UTF_8))
    }

    /** A checked file, which is still the one that was checked. */
    internal fun file(name: String): File {
        val file = File(folder, name)
        if (checked[name] != file.lastModified() || file.length() != manifest.files.getValue(name).bytes) {
            throw BundleException("$name was changed after it was checked; open the bundle again")
        }
        return file
    }

    internal fun checkUnchanged() = checked.keys.forEach { file(it) }

    internal fun graph(role: String): File {
        val name = manifest.graphs[role] ?: throw BundleException(
            "the bundle has no ${quote(role)} graph (it has " +
                manifest.graphs.keys.sorted().joinToString().ifEmpty { "none" } +
                if ("backbone" in manifest.graphs) {
                    "); it is for llama.cpp, which runs elsewhere: re-export it as ONNX"
                } else {
                    "); choose another engine or re-export it"
                },
        )
        return file(name)
    }

    /** Loads the catalogue and makes sure that it fits the model. */
    internal fun loadTrie(): ItemTrie {
        val trie = ItemTrie.open(file(TRIE_FILE))
        if (trie.size != manifest.catalogue.items) {
            throw BundleException(
                "$TRIE_FILE holds ${trie.size} items, but the manifest says ${manifest.catalogue.items}; $REMEDY",
            )
        }
        checkFit(trie)
        return trie
    }

    internal fun loadCold(items: Int): ColdItems? =
        if (COLD_FILE in manifest.files) ColdItems.open(file(COLD_FILE), items) else null

    private fun checkFit(trie: ItemTrie) {
        val model = manifest.model
        if (trie.file.sidSpace != model.sidSpace) {
            throw BundleException(
                "the trie's sid_space ${quote(trie.file.sidSpace)} is not the model's ${quote(model.sidSpace)}; " +
                    "re-export the model or re-publish the catalogue from the same codebooks",
            )
        }
        if (trie.levels != model.levels || trie.file.codesPerLevel != model.codes) {
            throw BundleException(
                "the trie has ${trie.levels} levels of ${trie.file.codesPerLevel} codes, but the model " +
                    "${model.levels} of ${model.codes}; re-export the model or re-publish the catalogue",
            )
        }
        for ((level, room) in model.maxBranch.withIndex()) {
            val have = trie.nodes.maxBranch[level]
            if (have > room) {
                throw BundleException(
                    "the trie has a node with $have children at level $level, but the model's graph has room for " +
                        "$room; re-export the model with a larger max_branch or re-publish a smaller catalogue",
                )
            }
        }
    }

    companion object {
        /**
         * Opens a bundle, checking its manifest and the size and SHA-256 of every file that it lists; others are never
         * read.
         *
         * @throws BundleException if anything is missing, damaged, of another version or not what the manifest says.
         */
        @JvmStatic
        fun open(folder: File): Bundle {
            if (!folder.isDirectory) throw BundleException("$folder is not a directory; give the path of a bundle")
            val path = File(folder, MANIFEST_FILE)
            if (!path.exists()) {
                throw BundleException("$folder has no $MANIFEST_FILE, so it is not a bundle; give the path of one")
            }
            val manifest = Manifest.parse(manifestBytes(path))
            val checked = manifest.files.mapValues { (name, entry) -> check(File(folder, name), entry) }
            return Bundle(folder, manifest, checked)
        }

        private fun manifestBytes(path: File): ByteArray {
            try {
                checkPlain(path)
                if (path.length() > MAX_MANIFEST_BYTES) {
                    throw BundleException("$MANIFEST_FILE is over the limit of $MAX_MANIFEST_BYTES bytes; $REMEDY")
                }
                return path.readBytes()
            } catch (error: IOException) {
                throw BundleException("$MANIFEST_FILE cannot be read (${oneLine(error)}); $REMEDY", error)
            }
        }

        private fun check(path: File, entry: FileEntry): Long {
            try {
                if (!path.exists()) throw BundleException("${path.name} is missing from the bundle; $REMEDY")
                checkPlain(path)
                val changed = path.lastModified()
                if (path.length() != entry.bytes) {
                    throw BundleException(
                        "${path.name} has ${path.length()} bytes, but the manifest says ${entry.bytes}; $REMEDY",
                    )
                }
                val digest = MessageDigest.getInstance("SHA-256")
                FileInputStream(path).use { file ->
                    val buffer = ByteArray(1 shl 16)
                    var left = entry.bytes + 1 // a file that grows is not read for ever
                    while (left > 0) {
                        val read = file.read(buffer, 0, minOf(buffer.size.toLong(), left).toInt())
                        if (read < 0) break
                        digest.update(buffer, 0, read)
                        left -= read
                    }
                }
                if (hex(digest.digest()) != entry.sha256) {
                    throw BundleException(
                        "${path.name} is not the file of the manifest (its SHA-256 differs); $REMEDY",
                    )
                }
                return changed
            } catch (error: IOException) {
                throw BundleException("${path.name} cannot be read (${oneLine(error)}); $REMEDY", error)
            }
        }

        /** No link, folder, pipe or device. (Android 24's Java has no `lstat`: a link is what leads elsewhere.) */
        private fun checkPlain(path: File) {
            val here = File(path.parentFile.canonicalFile, path.name)
            if (!path.isFile || here.canonicalPath != here.path) throw IOException("${path.name} is not a plain file")
        }
    }
}

internal fun sha256(bytes: ByteArray): String = hex(MessageDigest.getInstance("SHA-256").digest(bytes))

private fun hex(bytes: ByteArray): String =
    bytes.joinToString("") { (it.toInt() and 0xFF).toString(16).padStart(2, '0') }
