package dev.pocketrec

import dev.pocketrec.internal.Fault
import dev.pocketrec.internal.StrictJson
import dev.pocketrec.internal.sha256Hex

private const val FORMAT = "pocketrec-session"
private const val VERSION = 1L
private const val MAX_BYTES = 1 shl 24
private const val NEW_SESSION = "start a new session"

/** The content of a saved session: item ids, and the id of the model. The bytes are the same as from Python. */
internal class SavedSession(val items: List<String>, val model: String) {
    fun toBytes(): ByteArray {
        val content = linkedMapOf(
            "format" to FORMAT, "version" to VERSION, "model" to model, "sha256" to digest(items), "items" to items,
        )
        return StrictJson.write(content).toByteArray()
    }

    companion object {
        fun parse(data: ByteArray): SavedSession {
            if (data.size > MAX_BYTES) {
                throw SessionException("the saved session has over $MAX_BYTES bytes; $NEW_SESSION")
            }
            val content = try {
                StrictJson.parse(data)
            } catch (fault: Fault) {
                throw SessionException("the saved session is damaged (${fault.message}); $NEW_SESSION", fault)
            }
            if (content !is Map<*, *> || content["format"] != FORMAT) {
                throw SessionException("this is not a saved session; $NEW_SESSION")
            }
            if (content["version"] != VERSION) {
                throw SessionException(
                    "the saved session is of version ${content["version"].toString().take(20)}, and this pocketrec " +
                        "reads $VERSION; update pocketrec, or $NEW_SESSION",
                )
            }
            val items = (content["items"] as? List<*>)?.map { it as? String }
            val model = content["model"] as? String
            if (items == null || null in items || model == null) {
                throw SessionException("the saved session is damaged (its items are not a list of ids); $NEW_SESSION")
            }
            val ids = items.filterNotNull()
            if (content["sha256"] != digest(ids)) {
                throw SessionException(
                    "the saved session is damaged (its items do not match its checksum); $NEW_SESSION",
                )
            }
            return SavedSession(ids, model)
        }

        private fun digest(items: List<String>) = sha256Hex(StrictJson.asciiList(items).toByteArray())
    }
}
