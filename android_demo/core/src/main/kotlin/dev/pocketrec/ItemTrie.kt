package dev.pocketrec

import dev.pocketrec.internal.Fault
import java.io.File

/** An item of the catalogue. */
data class Item(val itemId: String, val title: String?)

/**
 * The trie of a catalogue or of a sub-catalogue: the semantic IDs of its items, as a tree. It is immutable, so any
 * number of threads may read it.
 *
 * Nodes are numbered breadth-first: the root is 0, siblings are in order of their codes. The children of an internal
 * node v are `firstChild[v]` to `firstChild[v + 1] - 1`. The leaves come last, in the order of the rows, so leaf row =
 * node - internal.
 */
class ItemTrie private constructor(
    internal val file: TrieFile,
    private val tableRows: IntArray?, // table row of each leaf row, ascending; null: the same (whole catalogue)
) {
    internal val table get() = file.table
    internal val levels get() = file.codes.levels

    /** Number of items. */
    val size: Int = tableRows?.size ?: file.codes.size
    internal val nodes: Nodes = Nodes.of(file.codes, size, tableRows)

    /** Whether the catalogue has an item. */
    operator fun contains(itemId: String): Boolean = leafOf(table.find(itemId)) >= 0

    /** The item in a row, 0 to [size] - 1; for browsing. */
    fun item(row: Int): Item {
        if (row !in 0 until size) throw ConfigException("row is $row; the catalogue has rows 0 to ${size - 1}")
        val place = rowOf(row)
        return Item(table.id(place), table.title(place))
    }

    /** The sub-catalogue of the given items; ids that this trie lacks are ignored. */
    fun filterIds(ids: Collection<String>): ItemTrie = filter(mask(ids, true))

    /** By leaf: `listed` for the given items, the opposite for all others. Unknown ids are ignored. */
    internal fun mask(ids: Collection<String>, listed: Boolean): BooleanArray {
        val out = BooleanArray(size) { !listed }
        for (id in ids) {
            val leaf = leafOf(table.find(id))
            if (leaf >= 0) out[leaf] = listed
        }
        return out
    }

    /** The sub-catalogue of the leaves where the mask is true. */
    internal fun filter(mask: BooleanArray): ItemTrie {
        val rows = IntArray(mask.count { it })
        var kept = 0
        for (leaf in mask.indices) {
            if (mask[leaf]) rows[kept++] = rowOf(leaf)
        }
        return ItemTrie(file, rows)
    }

    internal fun rowOf(leaf: Int): Int = if (tableRows == null) leaf else tableRows[leaf]

    /** The leaf of a table row; -1 if this trie lacks it. */
    internal fun leafOf(row: Int): Int = when {
        row < 0 -> -1
        tableRows == null -> row
        else -> maxOf(-1, tableRows.binarySearch(row))
    }

    internal fun code(leaf: Int, level: Int): Int = file.codes[rowOf(leaf), level]

    internal companion object {
        fun open(path: File): ItemTrie {
            val file = TrieFile.open(path)
            try {
                return ItemTrie(file, null)
            } catch (fault: Fault) {
                throw BundleException("${path.name} is malformed (${fault.message}); fetch it again or re-publish it")
            }
        }
    }
}
