package dev.pocketrec

/** A string in quotes as Python writes it, so that an error reads the same in every runtime; always one line. */
internal fun quote(text: String): String {
    val mark = if ('\'' in text && '"' !in text) '"' else '\''
    val out = StringBuilder().append(mark)
    var at = 0
    while (at < text.length) {
        val point = text.codePointAt(at)
        at += Character.charCount(point)
        when {
            point == mark.code || point == '\\'.code -> out.append('\\').append(point.toChar())
            point == '\n'.code -> out.append("\\n")
            point == '\r'.code -> out.append("\\r")
            point == '\t'.code -> out.append("\\t")
            isPrintable(point) -> out.appendCodePoint(point)
            point < 0x100 -> out.append("\\x").append(hex(point, 2))
            point < 0x10000 -> out.append("\\u").append(hex(point, 4))
            else -> out.append("\\U").append(hex(point, 8))
        }
    }
    return out.append(mark).toString()
}

private fun hex(point: Int, digits: Int) = point.toString(16).padStart(digits, '0')

private fun isPrintable(point: Int): Boolean = point == ' '.code || when (Character.getType(point).toByte()) {
    Character.CONTROL, Character.FORMAT, Character.SURROGATE, Character.PRIVATE_USE, Character.UNASSIGNED,
    Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR, Character.SPACE_SEPARATOR,
    -> false
    else -> true
}
