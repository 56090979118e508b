"""The words of the items: an inverted index, whose query is the words of the last items of a history.

An item's vector is the weights of its most telling words (powers of their idf), of length one; an item scores the
weighted cosines to the last items. Words that one item alone has lead nowhere and are left out. Built from texts by
`pocketrec.distill.experts.words`.

Format "pocketrec.words", version 1, safetensors, n items in the order of the catalogue's table: `idf` float32 [V];
`terms` uint16 [m] (int32 above 65,536 words): the words of one item after the other, rising within an item; `counts`
uint8 [n]: words of each item. The postings are made when the file is opened: at most MAX_POSTINGS items a word, those
whose vector the word fills most.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.compiled import native
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.experts.tensors import TensorRule, load_tensors
from pocketrec.runtime.files.safetensors import write_tensors

FORMAT: Final = "pocketrec.words"
VERSION: Final = "1"
MAX_TERMS: Final = 255  # of one item
MAX_POSTINGS: Final = 256  # items of one word that a query looks at: cost does not grow with the catalogue
WIDE: Final = 1 << 16
_RULES: Final = {
    "idf": TensorRule(("F32",), 1),
    "terms": TensorRule(("U16", "I32"), 1),
    "counts": TensorRule(("U8",), 1),
}


@dataclass(frozen=True, eq=False, slots=True)
class Words:
    """Words of n items, by table row, and their postings; arrays never change.

    first: int64 [n + 1], where each item's words begin. terms: int32 [m]. idf: float32 [V].
    norm: float32 [n], of an item's idf values, 1 where it has no words; inverse: float32 [n], 1 / norm.
    post_first: int64 [V + 1]; post_items: int32, table rows, rising within a word.
    """

    first: NDArray[np.int64]
    terms: NDArray[np.int32]
    idf: NDArray[np.float32]
    norm: NDArray[np.float32]
    inverse: NDArray[np.float32]
    post_first: NDArray[np.int64]
    post_items: NDArray[np.int32]

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.norm)

    @classmethod
    def build(cls, counts: NDArray[np.integer], terms: NDArray[np.integer], idf: NDArray[np.float32]) -> Words:
        """Lay out postings.

        :param counts: words of each item, [n]. terms: [sum of counts], rising within an item, below len(idf).
        """
        n = len(counts)
        first = np.zeros(n + 1, np.int64)
        np.cumsum(counts, out=first[1:])
        found: NDArray[np.int32] = terms.astype(np.int32)
        norm, size = _measured(first, found, idf.astype(np.float32))
        post_first = np.zeros(len(idf) + 1, np.int64)
        np.cumsum(np.minimum(size, MAX_POSTINGS), out=post_first[1:])
        post_items = np.empty(int(post_first[-1]), np.int32)
        if native is None:
            post_items[:] = postings(first, found, norm, size)
        else:
            order = np.argsort(norm, kind="stable").astype(np.int32)
            native.word_postings(first, found, order, post_first, post_items)
        return cls(first, found, idf.astype(np.float32), norm, np.float32(1) / norm, post_first, post_items)

    @classmethod
    def load(cls, path: Path, n_items: int) -> Words:
        """Read and check a file.

        :param n_items: items in the catalogue that it belongs to.
        :raises BundleError: if it is damaged, of another version, or not of this catalogue.
        """
        t = load_tensors(path, FORMAT, VERSION, _RULES)
        counts, terms, idf = t["counts"], t["terms"].astype(np.int32), t["idf"]
        if wrong := _fault(counts, terms, idf, n_items):
            raise BundleError(f"{path.name} is malformed ({wrong}); fetch the bundle again or export it again")
        return cls.build(counts, terms, idf)

    def save(self, path: str | Path) -> None:
        """Write the file.

        :raises OSError: if the disk refuses.
        """
        kind = np.uint16 if len(self.idf) <= WIDE else np.int32
        write_tensors(path, {"format": FORMAT, "version": VERSION}, {
            "idf": self.idf,
            "terms": self.terms.astype(kind),
            "counts": np.diff(self.first).astype(np.uint8),
        })  # fmt: skip

    def reached(self, history: NDArray[np.int32], recency: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Score the items that share words with the items of a history.

        :param history: table rows, oldest first; give the last few alone.
        :param recency: weight of an item's words relative to those of the one after it.
        :return: items, int32 [r], rising, and sums of weighted cosines, float32.
        """
        query: dict[int, float] = {}
        share = 1.0
        for row in history[::-1].tolist():
            worth = share / float(self.norm[row])
            share *= recency
            for term in self.terms[self.first[row] : self.first[row + 1]].tolist():
                query[term] = query.get(term, 0.0) + worth * float(self.idf[term])
        if not query:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        terms = np.array(sorted(query))
        worth = np.array([query[term] for term in terms.tolist()]) * self.idf[terms]
        sizes = self.post_first[terms + 1] - self.post_first[terms]
        at = np.repeat(self.post_first[terms] - np.cumsum(sizes) + sizes, sizes) + np.arange(int(sizes.sum()))
        items, place = np.unique(self.post_items[at], return_inverse=True)
        return items, np.bincount(place, np.repeat(worth, sizes)).astype(np.float32) * self.inverse[items]


def measured(
    first: NDArray[np.int64], terms: NDArray[np.int32], idf: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the length of each item's vector, 1 without words, float32 [n], and the items of each word, int64 [V]."""
    n = len(first) - 1
    item = np.repeat(np.arange(n, dtype=np.int32), np.diff(first))
    norm = np.sqrt(np.bincount(item, np.square(idf[terms], dtype=np.float64), minlength=n))
    return np.where(norm > 0, norm, 1).astype(np.float32), np.bincount(terms, minlength=len(idf))


def _measured(
    first: NDArray[np.int64], terms: NDArray[np.int32], idf: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what `measured` does, by the compiled code if there is any."""
    if native is None:
        return measured(first, terms, idf)
    norm, size = np.empty(len(first) - 1, np.float32), np.empty(len(idf), np.int64)
    native.word_norms(first, terms, idf, norm, size)
    return norm, size


def postings(
    first: NDArray[np.int64], terms: NDArray[np.int32], norm: NDArray[np.float32], size: NDArray[np.integer]
) -> NDArray[np.int32]:
    """Return the items of each word, at most MAX_POSTINGS with the shortest vectors, by row; int32.

    :param first: where each item's `terms` begin. size: items of each word.
    """
    item = np.repeat(np.arange(len(first) - 1, dtype=np.int32), np.diff(first))
    order = np.lexsort((item, norm[item], terms))  # by word, then the shortest vectors, then by row
    rank = np.arange(len(order)) - np.repeat(np.cumsum(size) - size, size)
    kept = order[rank < MAX_POSTINGS]
    found: NDArray[np.int32] = item[kept[np.lexsort((item[kept], terms[kept]))]]
    return found


def _fault(counts: NDArray[np.integer], terms: NDArray[np.int32], idf: NDArray[np.float32], n_items: int) -> str:
    """What is wrong with the tensors; empty: nothing."""
    if len(counts) != n_items:
        return f"it has {len(counts)} items, the catalogue {n_items}"
    if int(counts.sum(dtype=np.int64)) != len(terms):
        return "its tensors do not fit each other"
    if len(terms) and not 0 <= terms.min() <= terms.max() < len(idf):
        return "it names a word that it does not have"
    if not (np.isfinite(idf).all() and (idf > 0).all() and (idf <= 1e6).all()):
        return "it has a word whose weight is no positive number"
    falls = terms[1:] <= terms[:-1]
    last = np.cumsum(counts, dtype=np.int64) - 1  # place of each item's last word; behind it, another item's begin
    falls[last[(last >= 0) & (last < len(falls))]] = False
    if falls.any():
        return "an item's words do not rise"
    return ""
