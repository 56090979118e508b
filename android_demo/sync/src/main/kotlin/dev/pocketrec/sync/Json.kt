package dev.pocketrec.sync

import dev.pocketrec.internal.StrictJson

internal typealias JsonObject = Map<String, Any?>

/** A JSON object; null if the text is anything else. */
internal fun jsonObject(text: String): JsonObject? = StrictJson.objectOrNull(text.toByteArray())

internal fun JsonObject.text(name: String): String? = this[name] as? String

@Suppress("UNCHECKED_CAST")
internal fun JsonObject.objectAt(name: String): JsonObject? = this[name] as? JsonObject

/** An integer that is not negative; null if the field is anything else, such as 1.0 or "1". */
internal fun JsonObject.count(name: String): Long? = (this[name] as? Long)?.takeIf { it >= 0 }
