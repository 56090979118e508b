package dev.pocketrec.demo

import android.app.Application
import android.os.Handler
import android.os.Looper
import dev.pocketrec.demo.model.Presenter
import dev.pocketrec.demo.model.SavedSession
import java.io.File
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/** The process: it has one model and one history, whatever comes and goes on the screen. */
class DemoApp : Application() {
    val presenter by lazy {
        Presenter(
            models = FlavourModels(this),
            session = SavedSession(File(filesDir, "session")),
            worker = Executors.newSingleThreadExecutor { Thread(it, "model") },
            background = Executors.newSingleThreadExecutor { Thread(it, "newer-model") },
            ui = Handler(Looper.getMainLooper()).let { main -> Executor { main.post(it) } },
        ).apply { start() }
    }
}
