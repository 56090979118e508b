package dev.pocketrec.demo

import android.view.LayoutInflater
import android.view.ViewGroup
import android.widget.Button
import android.widget.HorizontalScrollView
import dev.pocketrec.Item
import dev.pocketrec.demo.model.name

/** The history as a row of chips, the newest first; a tap removes one. */
class HistoryChips(
    private val row: ViewGroup,
    private val scroll: HorizontalScrollView,
    private val remove: (Item) -> Unit,
) {
    private var shown: List<Item>? = null

    fun show(history: List<Item>) {
        if (history == shown) return
        shown = history
        row.removeAllViews()
        history.asReversed().forEach { row.addView(chip(it)) }
        scroll.smoothScrollTo(0, 0)
    }

    private fun chip(item: Item) = (LayoutInflater.from(row.context).inflate(R.layout.chip, row, false) as Button).apply {
        text = context.getString(R.string.chip, item.name)
        contentDescription = context.getString(R.string.history_remove, item.name)
        setOnClickListener { remove(item) }
    }
}
