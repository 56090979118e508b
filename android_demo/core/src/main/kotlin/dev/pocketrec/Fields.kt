package dev.pocketrec

import dev.pocketrec.internal.MANIFEST_FILE

private const val MAX_TEXT = 256
private const val MAX_SIZE = 1L shl 24
private const val MAX_NUMBER = 1e30

/** Reads fields of a JSON object of the manifest, checking types and ranges. */
internal class Fields private constructor(val data: Map<String, Any?>, private val where: String) {
    fun refuse(name: String, needed: String): Nothing {
        val found = if (name in data) "is ${said(data[name])}" else "is missing"
        throw BundleException("$MANIFEST_FILE: $where$name $found, where $needed is needed; $REMEDY")
    }

    fun fields(name: String): Fields {
        if (data[name] !is Map<*, *>) refuse(name, "an object")
        return of(data[name], where + name)
    }

    fun text(name: String): String {
        val value = data[name] as? String
        if (value == null || value.codePointCount(0, value.length) !in 1..MAX_TEXT) {
            refuse(name, "a text of 1 to $MAX_TEXT characters")
        }
        return value
    }

    fun integer(name: String, low: Long, high: Long = MAX_SIZE): Long {
        val value = data[name] as? Long
        if (value == null || value !in low..high) refuse(name, "a whole number from $low to $high")
        return value
    }

    fun count(name: String, low: Long, high: Long = MAX_SIZE): Int = integer(name, low, high).toInt()

    fun integers(name: String, count: Int, low: Long, high: Long): List<Int> {
        val value = data[name] as? List<*>
        if (value == null || value.size != count || !value.all { it is Long && it in low..high }) {
            refuse(name, "a list of $count whole numbers from $low to $high")
        }
        return value.map { (it as Long).toInt() }
    }

    fun objects(name: String) {
        val value = data[name] as? List<*>
        if (value == null || !value.all { it is Map<*, *> }) refuse(name, "a list of objects")
    }

    fun number(name: String): Double {
        val value = (data[name] as? Number)?.toDouble()
        if (value == null || !(value > 0 && value <= MAX_NUMBER)) refuse(name, "a positive number")
        return value
    }

    private fun said(value: Any?): String = when (value) {
        is String -> quote(value).take(60)
        is Boolean -> if (value) "True" else "False"
        is Number -> value.toString().take(60)
        null -> "None"
        is List<*> -> "list"
        else -> "dict"
    }

    companion object {
        @Suppress("UNCHECKED_CAST")
        fun of(value: Any?, where: String): Fields {
            if (value !is Map<*, *>) {
                val what = where.ifEmpty { "a top level" }
                throw BundleException("$MANIFEST_FILE has $what that is not an object; $REMEDY")
            }
            return Fields(value as Map<String, Any?>, if (where.isEmpty()) "" else "$where.")
        }
    }
}
