package dev.pocketrec.demo.model

import dev.pocketrec.Item
import dev.pocketrec.PocketRecException
import dev.pocketrec.Recommender
import java.io.IOException
import java.util.concurrent.Executor

/**
 * The demo without its views: what the user does goes in, [Screen]s come out.
 *
 * Everything is called on the screen's thread. The model runs on [worker] and what it finds is posted back; of several
 * wishes the newest wins (see [Latest]).
 *
 * @param session where the history outlives the process
 * @param worker one thread, which alone touches the model
 * @param background where newer models are waited for
 * @param ui runs things on the screen's thread
 */
class Presenter(
    private val models: Models,
    private val session: SavedSession,
    private val worker: Executor,
    private val background: Executor,
    private val ui: Executor,
) {
    var screen = Screen()
        private set

    /** Draws a screen; null while there is nothing to draw on. */
    var draw: ((Screen) -> Unit)? = null
        set(value) {
            field = value
            value?.invoke(screen)
        }

    private val searches = Latest(worker, ui)
    private val wishes = Latest(worker, ui)
    private var engine: Engine? = null // the worker's

    /** Open the model that is on the device, then look for a newer one. */
    fun start() {
        worker.execute { guarded { use(Engine(models.first(), session.read())) } }
        background.execute {
            guarded {
                val newer = models.newer() ?: return@guarded
                worker.execute { guarded { replace(newer) } }
            }
        }
    }

    fun search(query: String) {
        if (query == screen.query) return
        show(screen.copy(query = query))
        find()
        if (screen.onlyMatches) recommend()
    }

    /** Recommend only what the search finds, or from the whole catalogue. */
    fun onlyMatches(on: Boolean) {
        if (on == screen.onlyMatches) return
        show(screen.copy(onlyMatches = on))
        recommend()
    }

    /** Add an item to the history, or remove it. */
    fun toggle(item: Item) {
        val others = screen.history.filter { it.itemId != item.itemId }
        show(screen.copy(history = if (others.size < screen.history.size) others else others + item))
        recommend()
    }

    private fun use(opened: Engine) {
        engine = opened
        val history = opened.history
        ui.execute {
            show(screen.copy(history = history, model = opened.facts, problem = null))
            find()
            recommend()
        }
    }

    private fun replace(newer: Recommender) {
        val old = engine
        use(Engine(newer, old?.saved() ?: session.read()))
        old?.close()
    }

    private fun find() {
        val query = screen.query
        searches.ask {
            guarded {
                val found = engine?.matching(query) ?: return@guarded
                show { show(screen.copy(catalogue = found)) }
            }
        }
    }

    /** Recommend for the screen's history, save it, and then find out why: the reasons take longer than the list. */
    private fun recommend() {
        val history = screen.history.map { it.itemId }
        val query = screen.query.takeIf { screen.onlyMatches }
        wishes.ask {
            guarded {
                val engine = engine ?: return@guarded
                val began = System.nanoTime()
                val picks = engine.recommend(history, query)
                val took = System.nanoTime() - began
                show { show(screen.copy(picks = picks, nanoseconds = took, problem = null)) }
                session.write(engine.saved())
                explain(engine, history, picks)
            }
        }
    }

    private fun Latest.Question.explain(engine: Engine, history: List<String>, picks: List<Pick>) {
        for (pick in picks) {
            if (!current) return
            val because = engine.because(history, pick.item)?.name ?: continue
            show {
                show(screen.copy(picks = screen.picks.map { if (it.item.itemId == pick.item.itemId) it.copy(because = because) else it }))
            }
        }
    }

    /** A problem becomes a sentence on the screen; anything else is a bug, and fails loudly. */
    private fun guarded(work: () -> Unit) {
        try {
            work()
        } catch (problem: PocketRecException) {
            tell(problem)
        } catch (problem: IOException) {
            tell(problem)
        }
    }

    private fun tell(problem: Exception) = ui.execute { show(screen.copy(problem = problem.message)) }

    private fun show(next: Screen) {
        screen = next
        draw?.invoke(next)
    }
}
