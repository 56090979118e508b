package androidx.test.platform.app

import android.app.Instrumentation
import android.os.Bundle

/*
 * The files in this folder replace the part of androidx.test that Robolectric calls, since androidx.test is not in Maven
 * Central. They have only what the test of the activity needs.
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
