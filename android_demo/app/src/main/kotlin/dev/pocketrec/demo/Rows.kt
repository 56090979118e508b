package dev.pocketrec.demo

import android.content.Context
import android.view.LayoutInflater
import android.view.View
import android.view.ViewGroup
import android.widget.BaseAdapter
import android.widget.TextView
import dev.pocketrec.Item
import dev.pocketrec.demo.model.Pick
import dev.pocketrec.demo.model.Wording
import dev.pocketrec.demo.model.name

/** A list of rows with a title and a line below it; row views are reused. */
abstract class Rows<T>(private val context: Context) : BaseAdapter() {
    private class Holder(view: View) {
        val title: TextView = view.the(R.id.row_title)
        val detail: TextView = view.the(R.id.row_detail)
    }

    /** The texts of a row. [spoken] is for screen readers and includes what a tap does. */
    protected class Text(val title: String, val detail: String?, val spoken: String)

    protected abstract fun text(row: T): Text

    abstract override fun getItem(at: Int): T

    override fun getItemId(at: Int) = at.toLong()

    override fun getView(at: Int, used: View?, parent: ViewGroup): View {
        val view = used ?: LayoutInflater.from(context).inflate(R.layout.row, parent, false).also { it.tag = Holder(it) }
        val holder = view.tag as Holder
        val text = text(getItem(at))
        holder.title.text = text.title
        holder.detail.text = text.detail
        holder.detail.visibility = if (text.detail == null) View.GONE else View.VISIBLE
        view.contentDescription = text.spoken
        return view
    }
}

/** The recommendations, with score and reason. */
class PickRows(private val context: Context, private val wording: Wording) : Rows<Pick>(context) {
    private var picks = emptyList<Pick>()

    fun show(next: List<Pick>) {
        if (next == picks) return
        picks = next
        notifyDataSetChanged()
    }

    override fun getCount() = picks.size

    override fun getItem(at: Int) = picks[at]

    override fun text(row: Pick): Text {
        val score = wording.score(row.score)
        val detail = row.because?.let { context.getString(R.string.pick_because, score, it) }
            ?: context.getString(R.string.pick_score, score)
        return Text(row.item.name, detail, context.getString(R.string.row_add, "${row.item.name}. $detail"))
    }
}

/** The items that the search found. */
class CatalogueRows(private val context: Context) : Rows<Item>(context) {
    private var items = emptyList<Item>()
    private var history = emptyList<Item>()
    private var chosen = emptySet<String>()

    fun show(nextItems: List<Item>, nextHistory: List<Item>) {
        if (nextItems === items && nextHistory === history) return // comparing contents would read the whole catalogue
        items = nextItems
        history = nextHistory
        chosen = nextHistory.mapTo(HashSet()) { it.itemId }
        notifyDataSetChanged()
    }

    override fun getCount() = items.size

    override fun getItem(at: Int) = items[at]

    override fun text(row: Item): Text {
        if (row.itemId in chosen) {
            return Text(row.name, context.getString(R.string.catalogue_in_history), context.getString(R.string.row_remove, row.name))
        }
        return Text(row.name, null, context.getString(R.string.row_add, row.name))
    }
}
