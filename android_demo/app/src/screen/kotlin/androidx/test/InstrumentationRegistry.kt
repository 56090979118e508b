package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

/*
 * The files of this folder stand in for the part of androidx.test that Robolectric calls: it is not in Maven Central. They
 * keep nothing but what the test of the activity needs.
 */
object InstrumentationRegistry {
    private var made: Instrumentation? = null

    @JvmStatic
    @Suppress("UNUSED_PARAMETER")
    fun registerInstance(instrumentation: Instrumentation?, arguments: Bundle?) {
        made = instrumentation
    }

    @JvmStatic
    fun getInstrumentation(): Instrumentation = checkNotNull(made)
}
