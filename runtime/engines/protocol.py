"""What the recommender needs of an engine: everything that runs a bundle's model implements `Engine`.

Two ways lead to recommendations, and they give the same lists. `search`, and `read` with `search_from`, take arrays of
semantic IDs and serve every call. `fast_path` is optional: one compiled call from item ids to recommended items.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pocketrec.runtime.catalogue.trie import ItemTrie
    from pocketrec.runtime.experts.fusion import Experts

Found: TypeAlias = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Leaf rows and scores (log-probabilities, plus a bias where there is one), best first, as long as each other."""


class State(NamedTuple):
    """What a model has read of one history. A state never changes, so several histories may continue from it.

    items: number of items read. hidden: float32 [1, D], the model's output after the last of them. memory: what the
    engine needs to read on: keys and values [layers, 2, G, tokens, d], or the history itself, int32 [items, L].
    """

    items: int
    hidden: NDArray[np.float32]
    memory: NDArray[Any]


class FastPath(NamedTuple):
    """Compiled calls for one whole catalogue, without a control.

    leaf_of: item id -> leaf row, -1 for an unknown item.

    recommend: (ids or None, hidden, memory, history leaf rows, k, beam, exclude_seen, widen) -> recommended items, or
    None if this call needs the general way (an unknown id, for instance). With ids, the next three are None; without,
    they are a state's `hidden` and `memory` and the leaf rows of its whole history, int32 [N].
    """

    leaf_of: Callable[[str], int]
    recommend: Callable[..., list[Any] | None]


class Engine(Protocol):
    """Runs a model over a catalogue. Calls from several threads at once must be safe."""

    name: str

    def search(
        self,
        history: NDArray[np.int32],
        trie: ItemTrie,
        exclude: NDArray[np.int32],
        beam: int,
        limit: int | None = None,
        widen: bool = False,
    ) -> Found:
        """Find the best items after a history, by the rule of `pocketrec.runtime.catalogue.beam`.

        :param history: int32 [N, L], semantic IDs, oldest first; 0 <= N <= the model's max_history.
        :param trie: the catalogue to choose from.
        :param exclude: int32 [M], leaf rows of `trie` that must not come back, in any order, repeats allowed.
        :param beam: prefixes kept at each level; one wider than the catalogue is cut to its size (`beam_width`).
        :param limit: number of items the caller needs; an engine may leave out the others. None: all that were found.
        :param widen: begin with this beam, and search again and wider where an item that a beam has cut may be better
            than the last of `limit`. An engine that cannot tell makes room for the excluded leaves instead.
        :return: leaf rows, int32, and log-probabilities, float32: best first, at most `beam`, all finite.
        :raises ConfigError: if `beam` is not a whole number of at least 1.
        """
        ...

    def read(self, items: NDArray[np.int32], state: State | None = None) -> State:
        """Read a history from its beginning, or continue from a state.

        An engine with a cache reads only the new items; one without reads the whole history again.

        :param items: int32 [N, L], semantic IDs, oldest first; `state.items` + N <= the model's max_history.
        :param state: what was read before; None: nothing.
        """
        ...

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
        """Find the best items after what was read; otherwise as `search`.

        :param bias: float32 [n_nodes], what scores gain on the way to each node (`runtime.control`); None: nothing. A
            node's is 0 at the root, and elsewhere no smaller than that of a node under it.
        :raises BundleError: if the bundle's graph was exported before biases existed.
        """
        ...

    def level_scores(self, history: NDArray[np.int32], sid: NDArray[np.integer]) -> NDArray[np.float32]:
        """Log-probability of each code of one semantic ID [L] after a history, float32 [L]."""
        ...

    def fast_path(self, trie: ItemTrie, item_type: type, experts: Experts | None = None) -> FastPath | None:
        """Prepare compiled calls for a catalogue; None, as here: this engine has none, or not for this catalogue.

        :param item_type: the NamedTuple of id, score and title to make of each recommended item.
        :param experts: joined with the model; None: the model alone.
        """
        return None

    def close(self) -> None:
        """Free memory and threads. No call may follow."""
        ...
