package dev.pocketrec.demo.model

import dev.pocketrec.Item
import dev.pocketrec.PocketRecException
import dev.pocketrec.Recommender
import java.io.IOException
import java.util.concurrent.Executor

/**
 * The demo without its views: it takes what the user does, and gives [Screen]s.
 *
 * All functions are called on the screen's thread. The model runs on [worker], and results are posted back. Only the
 * newest task counts (see [Latest]).
 *
 * @param session keeps the history when the process ends
 * @param worker one thread; only it uses the model
 * @param background waits for newer models
 * @param ui runs work on the screen's thread
 */
class Presenter(
    private val models: Models,
    private val session: SessionFile,
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
    private val recommendations = Latest(worker, ui)
    private var recommender: UserRecommender? = null // used by the worker only

    /** Opens the model on the device and looks for a newer one. */
    fun start() {
        worker.execute { guarded { use(UserRecommender(models.first(), session.read())) } }
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

    /** Whether to recommend search results only, or from the whole catalogue. */
    fun onlyMatches(on: Boolean) {
        if (on == screen.onlyMatches) return
        show(screen.copy(onlyMatches = on))
        recommend()
    }

    /** Adds an item to the history, or removes it. */
    fun toggle(item: Item) {
        val others = screen.history.filter { it.itemId != item.itemId }
        show(screen.copy(history = if (others.size < screen.history.size) others else others + item))
        recommend()
    }

    private fun use(opened: UserRecommender) {
        recommender = opened
        val history = opened.history
        ui.execute {
            show(screen.copy(history = history, model = opened.facts, problem = null))
            find()
            recommend()
        }
    }

    private fun replace(newer: Recommender) {
        val old = recommender
        use(UserRecommender(newer, old?.saved() ?: session.read()))
        old?.close()
    }

    private fun find() {
        val query = screen.query
        searches.submit {
            guarded {
                val found = recommender?.matching(query) ?: return@guarded
                show { show(screen.copy(catalogue = found)) }
            }
        }
    }

    /** Recommends for the screen's history and saves it. Reasons are computed after that, since they take longer. */
    private fun recommend() {
        val history = screen.history.map { it.itemId }
        val query = screen.query.takeIf { screen.onlyMatches }
        recommendations.submit {
            guarded {
                val recommender = recommender ?: return@guarded
                val began = System.nanoTime()
                val picks = recommender.recommend(history, query)
                val took = System.nanoTime() - began
                show { show(screen.copy(picks = picks, nanoseconds = took, problem = null)) }
                session.write(recommender.saved())
                explain(recommender, history, picks)
            }
        }
    }

    private fun Latest.Task.explain(recommender: UserRecommender, history: List<String>, picks: List<Pick>) {
        for (pick in picks) {
            if (!isNewest) return
            val because = recommender.because(history, pick.item)?.name ?: continue
            show {
                show(screen.copy(picks = screen.picks.map { if (it.item.itemId == pick.item.itemId) it.copy(because = because) else it }))
            }
        }
    }

    /** Shows expected failures as a sentence on the screen. Anything else is a bug and crashes. */
    private fun guarded(work: () -> Unit) {
        try {
            work()
        } catch (problem: PocketRecException) {
            report(problem)
        } catch (problem: IOException) {
            report(problem)
        }
    }

    private fun report(problem: Exception) = ui.execute { show(screen.copy(problem = problem.message)) }

    private fun show(next: Screen) {
        screen = next
        draw?.invoke(next)
    }
}
