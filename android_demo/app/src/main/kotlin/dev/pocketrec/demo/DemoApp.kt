package dev.pocketrec.demo

import android.app.Application
import android.os.Handler
import android.os.Looper
import dev.pocketrec.demo.model.Presenter
import dev.pocketrec.demo.model.SessionFile
import java.io.File
import java.util.concurrent.Executor
import java.util.concurrent.Executors

/** The process. It holds one model and one history, which activities share. */
class DemoApp : Application() {
    val presenter by lazy {
        Presenter(
            models = FlavourModels(this),
            session = SessionFile(File(filesDir, "session")),
            worker = Executors.newSingleThreadExecutor { Thread(it, "model") },
            background = Executors.newSingleThreadExecutor { Thread(it, "newer-model") },
            ui = Handler(Looper.getMainLooper()).let { main -> Executor { main.post(it) } },
        ).apply { start() }
    }
}
