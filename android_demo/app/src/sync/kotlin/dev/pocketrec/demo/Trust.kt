package dev.pocketrec.demo

import android.content.Context
import dev.pocketrec.sync.TrustException
import dev.pocketrec.sync.TrustedTargets

/**
 * Where an app puts its client of The Update Framework, with the root metadata that it was built with and its
 * repository's address. The demo has neither, so it believes nobody and keeps the model that it came with.
 */
@Suppress("UNUSED_PARAMETER") // a real one keeps its metadata in the app's files
fun trustedTargets(context: Context) = TrustedTargets {
    throw TrustException("this build has no root metadata; see docs/integrate-android.md")
}
