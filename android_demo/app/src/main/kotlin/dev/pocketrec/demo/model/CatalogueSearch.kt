package dev.pocketrec.demo.model

import dev.pocketrec.Item
import dev.pocketrec.ItemTrie
import java.text.Normalizer
import java.util.Locale

/** The items in the order of their names, and a search over them. Items are read from the trie on access. */
class CatalogueSearch(private val trie: ItemTrie) {
    private val rows: List<Int>
    private val texts: Array<String>
    private val rowOf = HashMap<String, Int>()

    init {
        val byRow = Array(trie.size) { row ->
            val item = trie.item(row)
            rowOf[item.itemId] = row
            folded(item.name)
        }
        rows = byRow.indices.sortedBy { byRow[it] }
        texts = Array(rows.size) { byRow[rows[it]] }
    }

    /** The item with an id, which the catalogue must have. */
    fun item(id: String): Item = trie.item(rowOf.getValue(id))

    /** The items whose name has every word of [query]; case and accents do not matter. */
    fun matching(query: String): List<Item> {
        val words = folded(query).split(' ').filter { it.isNotEmpty() }
        if (words.isEmpty()) return Items(trie, rows)
        return Items(trie, rows.indices.filter { n -> words.all { it in texts[n] } }.map { rows[it] })
    }

    private class Items(private val trie: ItemTrie, private val rows: List<Int>) : AbstractList<Item>() {
        override val size get() = rows.size

        override fun get(index: Int) = trie.item(rows[index])
    }

    private companion object {
        val ACCENTS = Regex("\\p{Mn}+")

        fun folded(text: String) =
            Normalizer.normalize(text, Normalizer.Form.NFD).replace(ACCENTS, "").lowercase(Locale.ROOT)
    }
}
