"""Collaborative item vectors, from training histories only: the second source of semantic IDs.

Positive pointwise mutual information of items that occur near each other in a history, factored by a truncated SVD
(Levy & Goldberg 2014, "Neural word embedding as implicit matrix factorization", section 4). Items without events get a
row of zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.semantic_ids.text_vectors import normalise


def collaborative_vectors(
    train: Sequences, n_items: int, *, dim: int = 64, window: int = 5, seed: int = 0
) -> NDArray[np.float32]:
    """Return L2-normalised vectors, float32 [n_items, dim]; rows of items without training events are zero.

    :param train: training histories (never validation or test events).
    :param n_items: number of items in the catalogue.
    :param dim: length of a vector; dimensions beyond `n_items - 1` stay zero.
    :param window: two events of a user co-occur if they are at most this many places apart; the weight is 1/distance.
    :param seed: seed of the randomised SVD.
    """
    from sklearn.utils.extmath import randomized_svd

    ppmi = _ppmi(cooccurrence(train, n_items, window))
    out = np.zeros((n_items, dim), np.float32)
    rank = min(dim, n_items - 1)
    if ppmi.nnz == 0 or rank < 1:
        return out
    left, strength, _ = randomized_svd(ppmi, rank, n_iter=7, random_state=seed)
    out[:, :rank] = left * np.sqrt(strength)
    return normalise(out)


def cooccurrence(train: Sequences, n_items: int, window: int) -> csr_array:
    """Return the symmetric, distance-weighted co-occurrence counts, scipy CSR float64 [n_items, n_items]."""
    positions = train.event_positions()
    owner = np.repeat(np.arange(len(train)), train.lengths)
    total = csr_array((n_items, n_items), dtype=np.float64)
    for distance in range(1, window + 1):
        same = owner[distance:] == owner[:-distance]
        left = train.items[positions[:-distance][same]]
        right = train.items[positions[distance:][same]]
        different = left != right
        left, right = left[different], right[different]
        weight = np.full(len(left), 1.0 / distance)
        total = total + coo_array((weight, (left, right)), shape=(n_items, n_items)).tocsr()
    return total + total.T


def _ppmi(counts: csr_array) -> csr_array:
    """Positive PMI with the context distribution smoothed by 0.75 (Levy et al. 2015, section 3.1)."""
    coo = counts.tocoo()
    item = np.asarray(counts.sum(1)).ravel()
    context = item**0.75
    expected = item[coo.row] * context[coo.col] / max(context.sum(), 1e-12)
    coo.data = np.maximum(np.log(coo.data / expected), 0.0)
    out = coo.tocsr()
    out.eliminate_zeros()
    return out
