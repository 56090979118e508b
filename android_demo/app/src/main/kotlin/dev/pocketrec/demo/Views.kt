package dev.pocketrec.demo

import android.app.Activity
import android.view.View

/** The view with an id, which the layout must have. */
fun <T : View> Activity.the(id: Int): T = checkNotNull(findViewById<T>(id))

/** The same, below this view. */
fun <T : View> View.the(id: Int): T = checkNotNull(findViewById<T>(id))
