package dev.pocketrec.demo

import android.app.Activity
import android.os.Bundle
import android.text.Editable
import android.text.TextWatcher
import android.view.View
import android.widget.CheckBox
import android.widget.EditText
import android.widget.ListView
import android.widget.TextView
import dev.pocketrec.demo.model.ModelFacts
import dev.pocketrec.demo.model.Presenter
import dev.pocketrec.demo.model.Screen
import dev.pocketrec.demo.model.Wording

/** Draws the presenter's screens and passes on what the user does. It holds no state: the presenter outlives it. */
class MainActivity : Activity() {
    private lateinit var presenter: Presenter
    private lateinit var wording: Wording
    private lateinit var chips: HistoryChips
    private lateinit var picks: PickRows
    private lateinit var catalogue: CatalogueRows

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        the<View>(R.id.root).keepClearOfBars()

        presenter = (application as DemoApp).presenter
        wording = Wording(resources.configuration.locales[0])
        chips = HistoryChips(the(R.id.history), the(R.id.history_scroll), presenter::toggle)
        picks = PickRows(this, wording)
        catalogue = CatalogueRows(this)

        the<ListView>(R.id.picks).apply {
            adapter = picks
            emptyView = this@MainActivity.the(R.id.picks_empty)
            setOnItemClickListener { _, _, at, _ -> presenter.toggle(picks.getItem(at).item) }
        }
        the<ListView>(R.id.catalogue).apply {
            adapter = catalogue
            emptyView = this@MainActivity.the(R.id.catalogue_empty)
            setOnItemClickListener { _, _, at, _ -> presenter.toggle(catalogue.getItem(at)) }
        }
        the<EditText>(R.id.search).onText(presenter::search)
        the<CheckBox>(R.id.picks_within).setOnCheckedChangeListener { _, on -> presenter.onlyMatches(on) }
    }

    override fun onStart() {
        super.onStart()
        presenter.draw = ::draw
    }

    override fun onStop() {
        presenter.draw = null
        super.onStop()
    }

    private fun draw(screen: Screen) {
        chips.show(screen.history)
        picks.show(screen.picks)
        catalogue.show(screen.catalogue, screen.history)
        the<View>(R.id.history_hint).visibility = if (screen.history.isEmpty()) View.VISIBLE else View.GONE
        val open = screen.model != null // before that, an empty list does not mean "nothing found"
        the<TextView>(R.id.picks_empty).text = if (open) getString(R.string.picks_empty) else ""
        the<TextView>(R.id.catalogue_empty).text = if (open) getString(R.string.catalogue_empty) else ""
        the<TextView>(R.id.status).apply {
            text = screen.problem ?: screen.model?.let { ready(it, screen.nanoseconds) } ?: getString(R.string.status_opening)
            setTextColor(getColor(if (screen.problem == null) R.color.text_quiet else R.color.problem))
        }
    }

    private fun ready(model: ModelFacts, nanoseconds: Long) = getString(
        R.string.status_ready,
        wording.milliseconds(nanoseconds),
        wording.size(model.bytes),
        wording.count(model.items),
    ).let { if (model.modelAlone) getString(R.string.status_model_alone, it) else it }

    private fun EditText.onText(action: (String) -> Unit) = addTextChangedListener(object : TextWatcher {
        override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

        override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit

        override fun afterTextChanged(text: Editable) = action(text.toString())
    })
}
