"""Beam search over an item trie, in numpy, for a batch of users at once.

The reference of every search: the device graphs must give the same results, engines without a search of their own use
it, and training validates with it. It sees the model only as a `LevelScorer`.

The rule: start from the root with score 0. At each level, a child of a live node scores its parent's score plus the
log-probability of its code. Candidates are ordered by their parents' ranks, then by their codes; the best
min(beam, candidates) are kept, and of equal scores the earlier candidate. At the last level, excluded leaves score
-inf. A candidate that scores -inf (or NaN) never comes back. With a bias, a step from a node to its child gains
bias[child] - bias[node].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import ConfigError

LevelScorer: TypeAlias = Callable[
    [int, NDArray[np.float32], NDArray[np.int64]],
    NDArray[np.float32],
]
"""(level l, hidden float32 [B, D], prefixes int64 [B, W, l]) -> log-probabilities float32 [B, W, K].

Dead slots (score -inf) carry a prefix of zeros; the scorer's values for them are not used.
"""


@dataclass(frozen=True)
class BeamResult:
    """Leaf rows, int32 [B, beam], best first, -1 padded; their log-probabilities, float32, -inf padded.

    cut: float32 [B], the largest score of a prefix that was not kept for want of room above the last level, -inf: all
    were kept. No leaf under such a prefix scores more, so a list whose last score is at least `cut` is exact.
    """

    rows: NDArray[np.int32]
    scores: NDArray[np.float32]
    cut: NDArray[np.float32]


@dataclass(frozen=True)
class _Candidates:
    """Children of all live nodes, user by user, T in all; `first` [B] is where each user's begin."""

    parents: NDArray[np.int64]  # [T]: index into the flattened [B, W] beam
    nodes: NDArray[np.int64]  # [T]
    users: NDArray[np.int64]  # [T]
    first: NDArray[np.int64]  # [B]


def beam_search(
    hidden: NDArray[np.float32],
    scorer: LevelScorer,
    trie: ItemTrie,
    beam: int,
    exclude: NDArray[np.int32] | None = None,
    bias: NDArray[np.float32] | None = None,
) -> BeamResult:
    """Find each user's best items.

    :param hidden: float32 [B, D], passed to the scorer unchanged.
    :param scorer: the model's log-probabilities, level by level.
    :param trie: the items to choose from.
    :param beam: prefixes kept at each level, and the limit of items that come back; `beam >= len(trie)` is exact.
    :param exclude: int32 [B, M], leaf rows that must not come back, -1 padded; or None.
    :param bias: float32 [n_nodes], bias[0] = 0, the same for all users; or None.
    :return: up to `beam` items a user.
    :raises ConfigError: if `beam` is below 1.
    """
    if beam < 1:
        raise ConfigError(f"the beam is {beam}; it must be at least 1")
    batch = len(hidden)
    nodes = np.zeros((batch, 1), np.int64)  # [B, W]
    scores = np.zeros((batch, 1), np.float32)  # [B, W]; -inf: a dead slot
    prefixes = np.zeros((batch, 1, 0), np.int64)  # [B, W, level]
    cut = np.full(batch, -np.inf, np.float32)
    for level in range(trie.levels):
        candidates = _expand(trie, nodes, scores)
        if len(candidates.nodes) == 0:
            nodes, scores = nodes[:, :0], scores[:, :0]
            break
        slots = nodes.size  # B * W
        log_probs = scorer(level, hidden, prefixes).reshape(slots, -1)  # [B * W, K]
        codes = trie.codes[candidates.nodes]
        values = scores.reshape(-1)[candidates.parents] + log_probs[candidates.parents, codes]
        if bias is not None:
            values += bias[candidates.nodes] - bias[nodes.reshape(-1)[candidates.parents]]
        np.fmax(values, -np.inf, out=values)  # NaN becomes -inf
        if level == trie.levels - 1 and exclude is not None:
            values[_excluded(candidates, trie, exclude)] = -np.inf
        scores, picked, left_out = _best(values, candidates, beam)  # [B, W'] both; [B]
        if level < trie.levels - 1:
            cut = np.maximum(cut, left_out)
        alive = scores > -np.inf
        nodes = np.where(alive, candidates.nodes[picked], 0)
        prefixes = prefixes.reshape(slots, level)[candidates.parents[picked]]
        prefixes = np.concatenate((prefixes, codes[picked][..., None]), axis=2, dtype=np.int64)
        prefixes *= alive[..., None]
    rows = np.full((batch, beam), -1, np.int32)
    rows[:, : nodes.shape[1]] = np.where(scores > -np.inf, nodes - trie.n_internal, -1)
    padded = np.full((batch, beam), -np.inf, np.float32)
    padded[:, : nodes.shape[1]] = scores
    return BeamResult(rows, padded, cut)


def _expand(trie: ItemTrie, nodes: NDArray[np.int64], scores: NDArray[np.float32]) -> _Candidates:
    """List the children of every live node, by user, then parent's rank, then code."""
    begin = trie.first_child[nodes].astype(np.int64)
    count = np.where(scores > -np.inf, trie.first_child[nodes + 1] - begin, 0)  # [B, W]
    per_user = count.sum(axis=1)
    flat = count.reshape(-1)
    parents = np.repeat(np.arange(flat.size), flat)
    shift = begin.reshape(-1) - (np.cumsum(flat) - flat)  # from a candidate's place to its node
    return _Candidates(
        parents=parents,
        nodes=shift[parents] + np.arange(len(parents)),
        users=np.repeat(np.arange(len(nodes)), per_user),
        first=np.cumsum(per_user) - per_user,
    )


def _excluded(candidates: _Candidates, trie: ItemTrie, exclude: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Tell which candidates (leaves) their user has excluded; bool [T]."""
    n = len(trie)
    users, columns = np.nonzero((exclude >= 0) & (exclude < n))
    banned = np.sort(users * n + exclude[users, columns])  # one number per (user, leaf)
    if len(banned) == 0:
        return np.zeros(len(candidates.nodes), np.bool_)
    wanted = candidates.users * n + (candidates.nodes - trie.n_internal)
    place = np.minimum(np.searchsorted(banned, wanted), len(banned) - 1)
    hit: NDArray[np.bool_] = banned[place] == wanted
    return hit


def _best(
    values: NDArray[np.float32], candidates: _Candidates, beam: int
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Return each user's best scores, falling, the candidates that have them, and the best score left out.

    The first two are [B, W'], -inf padded; the last is [B], -inf if none was left out. Equal scores stay in the order
    of the candidates; a padded slot names candidate 0.
    """
    users, first = candidates.users, candidates.first
    column = np.arange(len(values)) - first[users]
    table = np.full((len(first), int(column.max()) + 1), -np.inf, np.float32)  # [B, candidates]
    table[users, column] = values
    width = table.shape[1]
    left_out = np.full(len(first), -np.inf, np.float32)
    if beam < width:
        threshold = np.partition(table, width - beam, axis=1)[:, width - beam, None]
        chosen = table > threshold
        tied = table == threshold
        room = beam - chosen.sum(axis=1, keepdims=True)
        chosen |= tied & (np.cumsum(tied, axis=1, dtype=np.int32) <= room)
        columns = np.nonzero(chosen)[1].reshape(len(first), beam)
        left_out = np.where(chosen, -np.inf, table).max(axis=1).astype(np.float32)
    else:
        columns = np.broadcast_to(np.arange(width), table.shape)
    scores = np.take_along_axis(table, columns, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    scores = np.take_along_axis(scores, order, axis=1)
    columns = np.take_along_axis(columns, order, axis=1)
    return scores, np.where(scores > -np.inf, first[:, None] + columns, 0), left_out
