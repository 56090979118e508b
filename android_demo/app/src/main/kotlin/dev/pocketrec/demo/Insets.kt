package dev.pocketrec.demo

import android.os.Build
import android.view.View
import android.view.WindowInsets

/** Keeps the content clear of the bars, the cutout and the keyboard: from Android 15 on the window extends below them. */
fun View.keepClearOfBars() = setOnApplyWindowInsetsListener { view, insets ->
    if (Build.VERSION.SDK_INT >= Build.VERSION_CODES.R) {
        val covered = WindowInsets.Type.systemBars() or WindowInsets.Type.displayCutout() or WindowInsets.Type.ime()
        insets.getInsets(covered).let { view.setPadding(it.left, it.top, it.right, it.bottom) }
        WindowInsets.CONSUMED
    } else {
        insets // the system keeps the window clear
    }
}
