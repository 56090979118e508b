package dev.pocketrec.demo

import android.graphics.Bitmap
import android.graphics.Canvas
import android.os.Looper
import android.view.View
import android.view.ViewGroup
import android.widget.EditText
import android.widget.ListView
import android.widget.TextView
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNotEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import org.robolectric.Robolectric
import org.robolectric.RobolectricTestRunner
import org.robolectric.Shadows.shadowOf
import org.robolectric.annotation.Config
import org.robolectric.annotation.GraphicsMode
import java.io.File

/** The activity under Robolectric: real layouts, real drawing and the real model, on the platform's own code. */
@RunWith(RobolectricTestRunner::class)
@GraphicsMode(GraphicsMode.Mode.NATIVE)
@Config(sdk = [35], qualifiers = "w400dp-h860dp-port-xxhdpi")
class MainActivityTest {
    private val controller = Robolectric.buildActivity(MainActivity::class.java).setup()
    private val activity get() = controller.get()
    private val picks get() = activity.the<ListView>(R.id.picks)
    private val catalogue get() = activity.the<ListView>(R.id.catalogue)
    private val chips get() = activity.the<ViewGroup>(R.id.history)

    /** Waits for the model's thread and the screen. */
    private fun until(condition: () -> Boolean) {
        val end = System.nanoTime() + 30_000_000_000
        while (!condition()) {
            check(System.nanoTime() < end) { "timed out; status: ${activity.the<TextView>(R.id.status).text}" }
            shadowOf(Looper.getMainLooper()).idle()
            Thread.sleep(5)
        }
    }

    private fun titles() = (0 until picks.adapter.count).map { (picks.adapter as PickRows).getItem(it).item.itemId }

    private fun tap(list: ListView, at: Int) = list.performItemClick(list.getChildAt(at), at, at.toLong())

    /** A search that finds some items of any catalogue, but not all: the last word of the first name. */
    private fun word() = (catalogue.adapter as CatalogueRows).getItem(0).title!!.substringAfterLast(' ')

    private fun settled() = until { (picks.adapter as PickRows).count == 10 && catalogue.adapter.count > 0 }

    @Test
    fun `a tap in the catalogue changes the recommendations and adds a chip, a tap on the chip takes it back`() {
        settled()
        val before = titles()
        tap(catalogue, 3)
        until { titles() != before }
        assertEquals(1, chips.childCount)
        chips.getChildAt(0).performClick()
        until { titles() == before }
        assertEquals(0, chips.childCount)
    }

    @Test
    fun `everything that takes a tap is large enough, and says what it does`() {
        settled()
        tap(catalogue, 0)
        until { chips.childCount == 1 && picks.childCount > 0 }
        layOut()
        val dp48 = (48 * activity.resources.displayMetrics.density).toInt()
        val views = listOf(chips.getChildAt(0), picks.getChildAt(0), catalogue.getChildAt(0), activity.the(R.id.search))
        for (view in views) assertTrue("$view", view.height >= dp48)
        assertTrue(chips.getChildAt(0).contentDescription.startsWith("Remove "))
        assertTrue(picks.getChildAt(0).contentDescription.endsWith("Tap to add it to your history."))
    }

    @Test
    fun `a search and a turn of the device keep the history and the query`() {
        settled()
        val all = catalogue.adapter.count
        val query = word()
        activity.the<EditText>(R.id.search).setText(query)
        until { catalogue.adapter.count in 1 until all }
        tap(catalogue, 0)
        until { chips.childCount == 1 }
        val found = catalogue.adapter.count
        controller.recreate()
        until { chips.childCount == 1 && catalogue.adapter.count == found }
        assertEquals(query, activity.the<EditText>(R.id.search).text.toString())
        assertNotEquals(0, titles().size)
    }

    @Test
    fun `a picture by day`() = picture("day")

    @Test
    @Config(qualifiers = "+night")
    fun `a picture by night`() = picture("night")

    @Test
    @Config(qualifiers = "w860dp-h400dp-land-xxhdpi")
    fun `a picture in landscape`() = picture("landscape")

    private fun picture(name: String) {
        settled()
        val all = catalogue.adapter.count
        activity.the<EditText>(R.id.search).setText(word())
        until { catalogue.adapter.count in 2 until all }
        tap(catalogue, 0)
        tap(catalogue, 1)
        until { (picks.adapter as PickRows).count == 10 && chips.childCount == 2 }
        until { (0 until 10).any { (picks.adapter as PickRows).getItem(it).because != null } }
        val root = layOut()
        val bitmap = Bitmap.createBitmap(root.width, root.height, Bitmap.Config.ARGB_8888)
        root.draw(Canvas(bitmap))
        val file = File(System.getProperty("pictures"), "$name.png")
        file.parentFile!!.mkdirs()
        file.outputStream().use { bitmap.compress(Bitmap.CompressFormat.PNG, 100, it) }
        assertTrue(file.length() > 10_000)
    }

    private fun layOut(): View {
        shadowOf(Looper.getMainLooper()).idle()
        val metrics = activity.resources.displayMetrics
        return activity.window.decorView.apply {
            measure(
                View.MeasureSpec.makeMeasureSpec(metrics.widthPixels, View.MeasureSpec.EXACTLY),
                View.MeasureSpec.makeMeasureSpec(metrics.heightPixels, View.MeasureSpec.EXACTLY),
            )
            layout(0, 0, metrics.widthPixels, metrics.heightPixels)
        }
    }
}
