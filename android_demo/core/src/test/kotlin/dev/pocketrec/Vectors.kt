package dev.pocketrec

import dev.pocketrec.internal.StrictJson
import java.io.File

/** The shared vectors (tests/vectors of the repository) as maps and lists. */
object Vectors {
    val folder = File(System.getProperty("pocketrec.vectors", "../../tests/vectors"))
    private val content by lazy { map(StrictJson.parse(File(folder, "vectors.json").readBytes())) }
    val tolerance get() = (content.getValue("tolerance") as Double).toFloat()

    fun cases(kind: String): List<Map<String, Any?>> = list(content.getValue(kind)).map(::map)

    fun bundle(name: Any?) = File(folder, "bundles/$name")

    @Suppress("UNCHECKED_CAST")
    fun map(value: Any?) = value as Map<String, Any?>

    fun list(value: Any?) = value as List<*>

    fun strings(value: Any?): List<String> = list(value).map { it as String }

    fun number(value: Any?): Double = (value as Number).toDouble()

    fun int(value: Any?): Int = (value as Long).toInt()
}
