"""How a text is split into words, when the word index is built and when a shared word is named.

Words are runs of letters and digits of any script, in lower case and compatibility form (NFKC); a run of a script that
is written without spaces (Han, Hiragana, Katakana, Thai, Lao, Khmer, Myanmar) gives its pairs of letters instead.
"""

from __future__ import annotations

import re
import unicodedata

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+")
_SCRIPT = re.compile(rf"[{_UNSPACED}]")


def words_of(text: str) -> list[str]:
    """Split a text into words, in its order."""
    out = []
    for word in _WORD.findall(unicodedata.normalize("NFKC", text).lower()):
        if _SCRIPT.match(word) and len(word) > 1:
            out += [word[i : i + 2] for i in range(len(word) - 1)]
        else:
            out.append(word)
    return out
