"""The reasons for a recommendation in words: which words two items share, and one sentence from the strongest reasons.

The word index stores numbers instead of words. A shared word is found again in the titles of the two items: it is a
word that both have, and that every other item with the same number has as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np

from pocketrec.runtime.catalogue.item_table import ItemTable
from pocketrec.runtime.experts.tokens import spelling, words_of
from pocketrec.runtime.experts.words import Words

HOLDERS: Final = 16  # items with a word's number whose titles are compared
NAMED: Final = 3  # words named for a pair of items
LONGEST: Final = 60  # characters of a title in a sentence
_LETTER: Final = re.compile("[a-z0-9]")  # a word of one letter says little


class Reason(NamedTuple):
    """What the sequence, the crowd or the words say for an item.

    part: its name. item: title or id of the item of the history that counts most; "": none raises the score.
    words: what it shares with the recommended item; empty if not known.
    """

    part: str
    item: str = ""
    words: tuple[str, ...] = ()


def shared_words(index: Words, table: ItemTable, one: int, other: int) -> tuple[str, ...] | None:
    """Name the words that count in the cosine of two items, the most telling first, at most NAMED.

    :param one: a table row. other: likewise.
    :return: None if the two share no word of the index; empty if they do, but no word of the titles is known to be it.
    """
    first, last = (index.terms[index.first[row] : index.first[row + 1]] for row in (one, other))
    both = np.intersect1d(first, last)
    if len(both) == 0:
        return None
    titles = [words_of(title or "") for title in table.titles([one, other])]
    candidates = [word for word in dict.fromkeys(titles[0]) if word in titles[1] and not _LETTER.fullmatch(word)]
    found: list[str] = []
    for term in both[np.argsort(-index.idf[both], kind="stable")].tolist():
        holders = index.post_items[index.post_first[term] : index.post_first[term + 1]][:HOLDERS]
        known = [set(words_of(title or "")) for title in table.titles(holders)]
        found += [w for w in candidates if w not in found and all(w in title for title in known)]
    spelt = spelling(table.titles([one])[0] or "")
    return tuple(spelt.get(word, word) for word in found[:NAMED])


def sentence(reasons: Sequence[Reason]) -> str:
    """Say why in one sentence.

    :param reasons: the strongest first; none: nothing in the history raises the item.
    """
    if not reasons:
        return "Nothing in the history raises this item."
    return "Because " + ", and because ".join(map(_clause, reasons)) + "."


def short(title: str) -> str:
    """Cut a title to a length that a sentence can bear."""
    return title if len(title) <= LONGEST else title[: LONGEST - 1].rstrip() + "…"


def _clause(reason: Reason) -> str:
    if reason.part == "crowd":
        return f"people who took {reason.item} took it soon after" if reason.item else "people often take it"
    if reason.part == "words":
        return f"it shares {_listed(reason.words)} with {reason.item}"
    return f"the model expects it after {reason.item or 'this history'}"


def _listed(words: Sequence[str]) -> str:
    quoted = [f"“{word}”" for word in words]
    if len(quoted) < 2:
        return quoted[0] if quoted else "words"
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}"
