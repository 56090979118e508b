"""How a text is split into words, when the word index is built and when a shared word is named.

Words are runs of letters and digits of any script. They are compared without case, width and accents: "CRÈME" and
"creme" are one word, and so are the Arabic and Hebrew words with and without points. A script that is written without
spaces gives runs of characters instead: pairs of Han and kana, threes of Thai, Lao, Khmer and Myanmar letters.
"""

from __future__ import annotations

import re
import unicodedata

_PAIRS = (
    "\u3005-\u3007\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003fffd"
)
_THREES = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_SIGNS = "\u0483-\u0487\u0900-\u0963\u0966-\u0dff"  # scripts of India: vowel signs are no letters to `re`
_WORD = re.compile(rf"([{_PAIRS}]+)|([{_THREES}]+)|(?:[^\W_{_PAIRS}{_THREES}]|[{_SIGNS}])+")
_RUN = re.compile(rf"(?:[^\W_]|[{_SIGNS}])+")
_ASCII = re.compile(r"[a-z0-9]+")
_ACCENTS = re.compile(
    "[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]"
)


def spelling(text: str) -> dict[str, str]:
    """Return how a text spells its words, with their accents, in lower case: word to spelling."""
    runs = _RUN.findall(unicodedata.normalize("NFC", text.lower()))
    return {words[0]: run for run in runs if len(words := words_of(run)) == 1}


def words_of(text: str) -> list[str]:
    """Split a text into words, in its order."""
    if text.isascii():
        return _ASCII.findall(text.lower())
    folded = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFKD", text.lower()).lower()))
    out = []
    for match in _WORD.finditer(folded):
        word, size = match[0], 2 if match[1] else 3 if match[2] else len(match[0])
        out += [word[i : i + size] for i in range(max(len(word) - size + 1, 1))]
    return out
