"""The student as a `Ranker` and as an `Engine`, in torch.

For validation while training, and as the torch side of the contract that every engine keeps. The search itself is the
runtime's numpy reference, so there is one rule.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.ranking import INVALID
from pocketrec.distill.models.student import Student
from pocketrec.runtime.catalogue.beam import LevelScorer, beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.numpy_search import NumpySearch


class TorchEngine(NumpySearch):
    """A student behind the runtime's engine protocol."""

    name = "torch"

    def __init__(self, student: Student) -> None:
        """Take a student; it is put in eval mode."""
        self.student = student.eval()

    @property
    def _device(self) -> torch.device:
        return self.student.start.device

    @torch.inference_mode()
    def encode(self, sids: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.float32]:
        """Hidden states after histories: left-aligned SIDs [B, N, L] of the given lengths [B] -> float32 [B, D]."""
        tokens = torch.from_numpy(np.pad(sids.astype(np.int64), ((0, 0), (1, 0), (0, 0)))).to(self._device)
        hidden = self.student(tokens)
        at = torch.from_numpy(np.asarray(lengths, np.int64)).to(self._device)
        return hidden[torch.arange(len(at), device=self._device), at].float().cpu().numpy()  # type: ignore[no-any-return]

    @torch.inference_mode()
    def score_level(self, level: int, hidden: NDArray[np.float32], prefixes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Log-probabilities of a level's codes: [B, D], [B, W, level] -> float32 [B, W, K]."""
        h, codes = (torch.from_numpy(array).to(self._device) for array in (hidden, prefixes))
        logits = self.student.code_logits(level, h, codes)
        return logits.float().log_softmax(-1).cpu().numpy()

    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Hidden state after a history: int32 [N, L] -> float32 [1, D]."""
        return self.encode(history[None], np.array([len(history)]))

    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """The SID decoder; the history is in h."""
        return self.score_level

    def close(self) -> None:
        """Nothing to free."""


class StudentRanker:
    """Ranks catalogue rows for many histories at once (a `Ranker` of `distill.evaluation`)."""

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
        """Return the best k rows of each history, int32 [n, k], -1 where nothing is left."""
        cut = histories.last(self.engine.student.config.max_history)
        padded = pad_rows(cut)  # [B, N]
        hidden = self.engine.encode(self.sids[np.maximum(padded, 0)], cut.lengths)
        exclude = None
        if exclude_seen:
            seen = pad_rows(histories)
            exclude = np.where(seen >= 0, self._leaf[seen], -1).astype(np.int32)
        found = beam_search(hidden, self.engine.score_level, self.trie, max(self.beam, k), exclude)
        rows = found.rows[:, :k]
        ranked = np.where(rows >= 0, self._catalogue_row[rows], -1).astype(np.int32)
        return np.pad(ranked, ((0, 0), (0, k - ranked.shape[1])), constant_values=-1)


def rows_trie(sids: NDArray[np.integer], codes: int) -> ItemTrie:
    """Build the trie of a catalogue whose ids are its rows: [n_items, L], each code below `codes`."""
    return ItemTrie.from_rows(sids, [str(row) for row in range(len(sids))], codes_per_level=codes)


def pad_rows(histories: Sequences) -> NDArray[np.int32]:
    """Lay histories out left-aligned, int32 [n, longest], -1 behind the end."""
    lengths = histories.lengths
    out = np.full((len(histories), int(lengths.max(initial=0))), -1, np.int32)
    out[np.arange(out.shape[1])[None] < lengths[:, None]] = histories.events()
    return out


class UnconstrainedRanker:
    """The same student without the trie: it spells whatever is likeliest, items or not.

    For comparison alone: it shows what the constraint is worth. A SID that no item has is `evaluation.INVALID`.
    """

    def __init__(self, ranker: StudentRanker) -> None:
        """Take the student and the catalogue of a constrained ranker."""
        self.ranker = ranker
        codes = ranker.engine.student.codes
        keys = _keys(ranker.sids.astype(np.int64), codes)
        self._order = np.argsort(keys)
        self._keys = keys[self._order]

    def rank(self, histories: Sequences, k: int, exclude_seen: bool) -> NDArray[np.int32]:
        """Return the `k` likeliest SIDs as catalogue rows, int32 [n, k]; seen items cannot be excluded."""
        engine, sids = self.ranker.engine, self.ranker.sids
        cut = histories.last(engine.student.config.max_history)
        hidden = engine.encode(sids[np.maximum(pad_rows(cut), 0)], cut.lengths)
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
    """One number per SID: [..., L] -> int64 [...]."""
    key = np.zeros(sids.shape[:-1], np.int64)
    for level in range(sids.shape[-1]):
        key = key * codes + sids[..., level]
    return key
