package dev.pocketrec.demo

import android.app.Activity
import android.view.View

/** The view with an id that the layout is known to have. */
fun <T : View> Activity.the(id: Int): T = checkNotNull(findViewById<T>(id))

/** As above, below this view. */
fun <T : View> View.the(id: Int): T = checkNotNull(findViewById<T>(id))
