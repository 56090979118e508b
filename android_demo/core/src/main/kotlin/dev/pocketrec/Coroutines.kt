package dev.pocketrec

import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.withContext

/** As [Recommender.recommend], off the caller's thread. Needs kotlinx-coroutines, which the app brings. */
suspend fun Recommender.recommendAsync(
    history: List<String>,
    k: Int = 10,
    excludeSeen: Boolean = true,
    within: ItemTrie? = null,
    control: Control? = null,
    dispatcher: CoroutineDispatcher = Dispatchers.Default,
): Recommendations = withContext(dispatcher) { recommend(history, k, excludeSeen, within, null, control) }

/** As [LiveSession.recommend], off the caller's thread. */
suspend fun LiveSession.recommendAsync(
    k: Int = 10,
    excludeSeen: Boolean = true,
    within: String? = null,
    dispatcher: CoroutineDispatcher = Dispatchers.Default,
): Recommendations = withContext(dispatcher) { recommend(k, excludeSeen, within) }

/** As [Session.recommend], off the caller's thread. */
suspend fun Session.recommendAsync(
    k: Int = 10,
    excludeSeen: Boolean = true,
    within: ItemTrie? = null,
    control: Control? = null,
    dispatcher: CoroutineDispatcher = Dispatchers.Default,
): Recommendations = withContext(dispatcher) { recommend(k, excludeSeen, within, null, control) }
