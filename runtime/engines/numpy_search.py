"""Base of engines that use the numpy beam search: they compute the hidden state and a level's scores."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.catalogue.beam import LevelScorer, beam_search
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.engines.protocol import Engine, Found, State
from pocketrec.runtime.engines.validate import beam_width

WIDEST = 1024  # beam of a search that widens itself


class NumpySearch(Engine, ABC):
    """An `Engine` without its name and `close`. A state's memory is the history itself."""

    @abstractmethod
    def hidden_of(self, history: NDArray[np.int32]) -> NDArray[np.float32]:
        """Hidden state after a history: int32 [N, L] -> float32 [1, D]."""

    @abstractmethod
    def scorer(self, history: NDArray[np.int32]) -> LevelScorer:
        """The scorer of codes after a history."""

    def search(
        self,
        history: NDArray[np.int32],
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        limit: int | None = None,
        widen: bool = False,
    ) -> Found:
        """Return leaf rows and log-probabilities, best first (see `Engine.search`)."""
        return self.search_from(self.read(history), trie, exclude, beam, None, limit, widen)

    def read(self, items: NDArray[np.int32], state: State | None = None) -> State:
        """Read the whole history again (see `Engine.read`)."""
        history = items if state is None else np.concatenate((state.memory, items))
        return State(len(history), self.hidden_of(history), history)

    def search_from(
        self,
        state: State,
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        bias: NDArray[np.float32] | None = None,
        limit: int | None = None,
        widen: bool = False,
    ) -> Found:
        """Return leaf rows and scores, best first (see `Engine.search_from`)."""
        beam, scorer = beam_width(beam, trie), self.scorer(state.memory)
        widest = min(WIDEST, len(trie)) if widen and limit is not None else 0
        while True:
            result = beam_search(state.hidden, scorer, trie, beam, exclude[None], bias)
            found = result.rows[0] >= 0
            rows, scores = result.rows[0][found], result.scores[0][found]
            if beam >= widest or (len(rows) >= (limit or 0) and result.cut[0] <= scores[:limit].min(initial=np.inf)):
                return rows, scores
            beam = min(2 * beam, widest)

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID, float32 [L] (see `Engine.level_scores`)."""
        hidden, score = self.hidden_of(history), self.scorer(history)
        codes = np.asarray(sid, np.int64)
        steps = [score(level, hidden, codes[None, None, :level])[0, 0, code] for level, code in enumerate(codes)]
        return np.array(steps, np.float32)
