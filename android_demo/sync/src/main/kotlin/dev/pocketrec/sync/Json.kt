package dev.pocketrec.sync

import com.google.gson.JsonElement
import com.google.gson.JsonObject
import com.google.gson.JsonParseException
import com.google.gson.JsonParser

/** A JSON object; null if the text is anything else. */
internal fun jsonObject(text: String): JsonObject? =
    try {
        JsonParser.parseString(text) as? JsonObject
    } catch (_: JsonParseException) {
        null
    }

internal fun JsonObject.text(name: String): String? = get(name).asText()

internal fun JsonObject.objectAt(name: String): JsonObject? = get(name) as? JsonObject

/** A whole number that is not negative; null if the field is anything else, a fraction or a text included. */
internal fun JsonObject.count(name: String): Long? {
    val value = get(name)
    val isNumber = value != null && value.isJsonPrimitive && value.asJsonPrimitive.isNumber
    return if (isNumber && WHOLE.matches(value.asString)) value.asString.toLong() else null
}

internal fun JsonElement?.asText(): String? =
    if (this != null && isJsonPrimitive && asJsonPrimitive.isString) asString else null

private val WHOLE = Regex("0|[1-9][0-9]{0,15}")
