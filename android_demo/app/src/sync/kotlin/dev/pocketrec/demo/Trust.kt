package dev.pocketrec.demo

import android.content.Context
import dev.pocketrec.sync.TrustException
import dev.pocketrec.sync.TrustedTargets

/**
 * The place for the app's client of The Update Framework, with the root metadata that the app was built with and the URL
 * of its repository. The demo has neither, so it trusts no repository and keeps the model that it came with.
 */
@Suppress("UNUSED_PARAMETER") // a real client keeps its metadata in the app's files
fun trustedTargets(context: Context) = TrustedTargets {
    throw TrustException("this build has no root metadata; see docs/integrate-android.md")
}
