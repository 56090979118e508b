package dev.pocketrec.internal

/** Marks declarations that the modules of pocketrec share. They are no API: they may change in any version. */
@RequiresOptIn("This is internal to pocketrec and may change in any version.")
@Retention(AnnotationRetention.BINARY)
@Target(AnnotationTarget.CLASS, AnnotationTarget.FUNCTION, AnnotationTarget.PROPERTY)
annotation class PocketRecInternal
