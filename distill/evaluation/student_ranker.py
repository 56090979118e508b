"""The student in torch, as a `Ranker` for validation and as an `Engine` for the contract tests of all engines.

The beam search is the runtime's numpy reference.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.ranking import EMPTY, INVALID
from pocketrec.distill.models.student import Student
from pocketrec.runtime.catalogue.beam import LevelScorer, beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.numpy_search import NumpySearch

AGAIN = 32  # histories that are searched again at once, by a wide beam


class TorchEngine(NumpySearch):
    """A student as an engine of the runtime."""

    name = "torch"

    def __init__(self, student: Student) -> None:
        """Take a student; it is put in eval mode."""
        self.student = student.eval()

    @property
    def _device(self) -> torch.device:
        return self.student.start.device

    @torch.inference_mode()
    def encode(self, sids: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return hidden states after histories: left-aligned SIDs [B, N, L] of lengths [B] -> float32 [B, D]."""
        tokens = torch.from_numpy(np.pad(sids.astype(np.int64), ((0, 0), (1, 0), (0, 0)))).to(self._device)
        hidden = self.student(tokens)
        at = torch.from_numpy(np.asarray(lengths, np.int64)).to(self._device)
        return hidden[torch.arange(len(at), device=self._device), at].float().cpu().numpy()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def score_level(self, level: int, hidden: NDArray[np.float32], prefixes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return log-probabilities of a level's codes: hidden [B, D], prefixes [B, W, level] -> float32 [B, W, K]."""
        h, codes = (torch.from_numpy(array).to(self._device) for array in (hidden, prefixes))
        logits = self.student.code_logits(level, h, codes)
        return logits.float().log_softmax(-1).cpu().numpy()

    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Return the hidden state after a history: SIDs int32 [N, L] -> float32 [1, D]."""
        return self.encode(history[None], np.array([len(history)]))

    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """Return the scores of the SID decoder; they depend on the history only through the hidden state."""
        return self.score_level

    def close(self) -> None:
        """Do nothing; there is nothing to free."""


class StudentRanker:
    """Ranks catalogue rows for many histories at once by a student (a `Ranker`)."""

    def __init__(self, student: Student, sids: NDArray[np.unsignedinteger], beam: int = 20) -> None:
        """Build the trie of a catalogue.

        :param sids: [n_items, L], in catalogue order.
        """
        self.engine, self.sids, self.beam = TorchEngine(student), sids, beam
        self.trie = rows_trie(sids, student.codes)
        self._catalogue_row = np.array(self.trie.table.ids(np.arange(len(sids))), np.int32)
        self._leaf = np.empty(len(sids), np.int32)
        self._leaf[self._catalogue_row] = np.arange(len(sids), dtype=np.int32)

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the best k rows for each whole history, int32 [n, k], EMPTY (-1) where no item is left.

        As in the runtime, excluded items can fill a narrow beam; such histories are searched again with a beam as wide
        as the list and the excluded items together.
        """
        cut = histories.last(self.engine.student.config.max_history)
        hidden = self.engine.encode(self.sids[np.maximum(cut.padded(), 0)], cut.lengths)
        if not exclude_seen:
            return self._search(hidden, k, max(self.beam, k), None)
        ranked = self._search(hidden, k, max(self.beam, k), histories)
        short = np.flatnonzero((ranked == EMPTY).any(1) & (max(self.beam, k) < k + histories.lengths))
        short = short[np.argsort(histories.lengths[short], kind="stable")]  # searches of like widths together
        for start in range(0, len(short), AGAIN):
            rows = short[start : start + AGAIN]
            again = histories.take(rows)
            ranked[rows] = self._search(hidden[rows], k, min(k + int(again.lengths.max()), len(self.sids)), again)
        return ranked

    def _search(self, hidden: NDArray[np.float32], k: int, beam: int, exclude: Sequences | None) -> NDArray[np.int32]:
        """Return the best k catalogue rows after hidden states, without the items of `exclude`, int32 [n, k]."""
        leaves = None
        if exclude is not None:
            seen = exclude.padded()
            leaves = np.where(seen >= 0, self._leaf[seen], -1).astype(np.int32)
        found = beam_search(hidden, self.engine.score_level, self.trie, beam, leaves)
        rows = found.rows[:, :k]
        ranked = np.where(rows >= 0, self._catalogue_row[rows], EMPTY).astype(np.int32)
        return np.pad(ranked, ((0, 0), (0, k - ranked.shape[1])), constant_values=EMPTY)


def rows_trie(sids: NDArray[np.integer], codes: int) -> ItemTrie:
    """Build a trie in which an item's id is its catalogue row: SIDs [n_items, L], codes in [0, `codes`)."""
    return ItemTrie.from_rows(sids, [str(row) for row in range(len(sids))], codes_per_level=codes)


class UnconstrainedRanker:
    """Ranks by a student without the trie: the top-k semantic IDs, whether an item has them or not.

    For comparison only: it shows the effect of the constraint. A SID that no item has is listed as INVALID (-2).
    """

    def __init__(self, ranker: StudentRanker) -> None:
        """Take the student and the catalogue of a constrained ranker."""
        self.ranker = ranker
        codes = ranker.engine.student.codes
        keys = _keys(ranker.sids.astype(np.int64), codes)
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the top-k SIDs as catalogue rows, int32 [n, k]; seen items are not excluded."""
        engine, sids = self.ranker.engine, self.ranker.sids
        cut = histories.last(engine.student.config.max_history)
        hidden = engine.encode(sids[np.maximum(cut.padded(), 0)], cut.lengths)
        prefixes = np.zeros((len(cut), 1, 0), np.int64)
        scores = np.zeros((len(cut), 1), np.float32)
        for level in range(engine.student.levels):
            log_p = engine.score_level(level, hidden, prefixes)  # [B, W, K]
            codes = log_p.shape[2]
            total = (scores[:, :, None] + log_p).reshape(len(cut), -1)
            best = np.argsort(-total, axis=1, kind="stable")[:, : max(self.ranker.beam, k)]
            scores = np.take_along_axis(total, best, axis=1)
            parents = np.take_along_axis(prefixes, (best // codes)[:, :, None], axis=1)
            prefixes = np.concatenate((parents, (best % codes)[:, :, None]), axis=2)
        keys = _keys(prefixes[:, :k], engine.student.codes)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._order[at], INVALID).astype(np.int32)


def _keys(sids: NDArray[np.int64], codes: int) -> NDArray[np.int64]:
    """Return a unique number for each SID: [..., L] -> int64 [...]."""
    key = np.zeros(sids.shape[:-1], np.int64)
    for level in range(sids.shape[-1]):
        key = key * codes + sids[..., level]
    return key
