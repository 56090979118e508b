package dev.pocketrec

import dev.pocketrec.internal.MANIFEST_FILE
import dev.pocketrec.internal.MAX_MANIFEST_BYTES
import dev.pocketrec.internal.StrictJson
import dev.pocketrec.internal.TRIE_FILE
import dev.pocketrec.internal.oneLine
import dev.pocketrec.internal.sha256Hex
import java.io.File
import java.io.IOException

/** A bundle whose files all have the size and the SHA-256 of the manifest. */
class Bundle private constructor(val folder: File, val manifest: Manifest, private val checked: Map<String, Long>) {
    /** Size of all its files. */
    val bytes: Long = manifest.files.values.sumOf { it.bytes }

    /** The id of the model: a hash over the hashes of its files, without those that a refresh changes and the model card. */
    val modelId: String by lazy {
        val files = manifest.files.filterKeys { it !in REFRESHED_FILES && !it.endsWith(".md") }
        val hashes = files.toSortedMap().map { (name, entry) -> listOf(name, entry.sha256) }
        sha256Hex(StrictJson.asciiList(hashes).toByteArray())
    }

    /** A file that has not changed since it was checked. */
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

    /** Loads the catalogue and checks that it fits the model. */
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
         * Opens a bundle and checks its manifest, and the size and SHA-256 of every file that the manifest lists. Other
         * files are never read.
         *
         * @throws BundleException if a file is missing, damaged or of another version.
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
                checkRegularFile(path)
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
                checkRegularFile(path)
                val changed = path.lastModified()
                if (path.length() != entry.bytes) {
                    throw BundleException(
                        "${path.name} has ${path.length()} bytes, but the manifest says ${entry.bytes}; $REMEDY",
                    )
                }
                if (sha256Hex(path, entry.bytes + 1) != entry.sha256) { // a file that grows is not read for ever
                    throw BundleException(
                        "${path.name} is not the file of the manifest (its SHA-256 differs); $REMEDY",
                    )
                }
                return changed
            } catch (error: IOException) {
                throw BundleException("${path.name} cannot be read (${oneLine(error)}); $REMEDY", error)
            }
        }

        /** Refuses links, folders, pipes and devices. API 24 has no `lstat`, so links are found by their real path. */
        private fun checkRegularFile(path: File) {
            val here = File(path.parentFile.canonicalFile, path.name)
            if (!path.isFile || here.canonicalPath != here.path) throw IOException("${path.name} is not a plain file")
        }
    }
}
