"""Which training histories the teacher learns from: coverage-enhanced selection by score (DEALRec, Lin et al. 2024).

On the path of the data: training histories and their scores in, a share of the histories out, in their order and fixed
by a seed. The score of a history combines its *influence* on a small surrogate's loss
(`distill.training.history_influence`) and the *effort* it costs the language model
(`distill.training.history_effort`). The selection covers the whole range of scores instead of taking the highest, and
has the same size as its random control.

Unlike the paper, whose samples are single predictions, a sample here is a whole history. Both scores sum over the
events of a history, so they grow with its length; divide them by `train.lengths` to compare histories event by event.
(A share selected by undivided scores can hold twice the events of its random control, and then takes twice as long to
train on.)
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.data.splits import Sequences
from pocketrec.runtime.errors import ConfigError, DataError, TrainingError

logger = logging.getLogger(__name__)


def select_histories(
    train: Sequences, share: float, scores: NDArray[np.floating] | None, strata: int = 50, seed: int = 0
) -> Sequences:
    """Select a share of the histories with events; histories without events are never selected.

    The range of scores is divided into `strata` of equal width. The budget is divided evenly among the strata that have
    members, starting with the smallest, so that larger strata get the budget that smaller ones cannot use. Within a
    stratum the choice is random (coverage-enhanced sample selection of DEALRec, which follows Zheng et al. 2023).

    :param share: share of the histories with events, in (0, 1]; at least one history is selected.
    :param scores: float [n], one per history of `train`; None: select at random, the control.
    :returns: the selected histories in their original order, views into the same events.
    :raises ConfigError: if `share` or `strata` is out of bounds.
    :raises DataError: if no history has an event.
    :raises TrainingError: if there is not one score per history, or the score of a history with events is not finite.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"the share of training histories is {share}; set it above 0 and at most 1")
    if strata < 1:
        raise ConfigError(f"strata is {strata}; it must be at least 1")
    rows = np.flatnonzero(train.lengths > 0)
    if len(rows) == 0:
        raise DataError("no training history has an event, so there is nothing to select from")
    budget = max(1, round(share * len(rows)))
    generator = np.random.default_rng(seed)
    if scores is None:
        chosen = generator.permutation(len(rows))[:budget]
    else:
        if len(scores) != len(train):
            raise TrainingError(
                f"there are {len(scores)} scores for {len(train)} histories; score these histories again"
            )
        chosen = _cover(_strata_of(np.asarray(scores, np.float64)[rows], strata), budget, generator)
    selected = train.take(rows[np.sort(chosen)])
    events = selected.lengths.sum() / train.lengths.sum()
    logger.info("selected %d of %d histories, %.1f %% of the events", budget, len(rows), 100 * events)
    return selected


def combine_scores(influence: NDArray[np.floating], effort: NDArray[np.floating], weight: float) -> NDArray[np.float32]:
    """Return influence + weight × effort, each first scaled to [0, 1]: float32 [n].

    A score that is the same for all histories counts as 0. NaN (a history without events) stays NaN. The sum is from
    DEALRec, the scaling from its published code.

    :raises ConfigError: if `weight` is negative.
    :raises TrainingError: if the two have different lengths.
    """
    if not weight >= 0:
        raise ConfigError(f"the weight of the effort score is {weight}; it must be at least 0")
    if len(influence) != len(effort):
        raise TrainingError(
            f"there are {len(influence)} influence but {len(effort)} effort scores; score the same histories"
        )
    return (_unit(influence) + weight * _unit(effort)).astype(np.float32)


def _strata_of(scores: NDArray[np.float64], strata: int) -> NDArray[np.int64]:
    """Return the stratum of each score: int64 [n], in [0, strata)."""
    if not np.isfinite(scores).all():
        raise TrainingError(
            "some histories with events have no finite score; the training of the model that scored them has diverged"
        )
    return np.minimum((_unit(scores) * strata).astype(np.int64), strata - 1)


def _cover(stratum: NDArray[np.int64], budget: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw `budget` members, evenly from all strata, starting with the smallest stratum."""
    groups = [np.flatnonzero(stratum == s) for s in np.unique(stratum)]
    groups.sort(key=len)
    chosen = []
    for done, group in enumerate(groups):
        size = min(len(group), budget // (len(groups) - done))
        chosen.append(generator.permutation(group)[:size])
        budget -= size
    return np.concatenate(chosen)


def _unit(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    """Scale scores to [0, 1]; NaN stays NaN, equal scores become 0."""
    known = scores[~np.isnan(scores)].astype(np.float64)
    low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
    return (scores - low) / (high - low if high > low else 1.0)
