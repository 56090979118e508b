"""Choosing training histories: what a selection covers, and its size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.training.history_selection import combine_scores, select_histories
from pocketrec.runtime.errors import ConfigError, DataError, TrainingError
from tiny_sasrec import HISTORIES


def test_combined_scores_weigh_both_on_the_same_scale():
    influence = np.array([-1e-6, np.nan, 3e-6, 1e-6])
    effort = np.array([10.0, np.nan, 10.0, 30.0])
    np.testing.assert_allclose(combine_scores(influence, effort, 0.5), [0.0, np.nan, 1.0, 1.0])
    np.testing.assert_allclose(combine_scores(influence, np.full(4, 7.0), 2.0), [0.0, np.nan, 1.0, 0.5])
    with pytest.raises(ConfigError, match="weight"):
        combine_scores(influence, effort, -1.0)
    with pytest.raises(TrainingError, match="4 influence but 3"):
        combine_scores(influence, effort[:3], 1.0)


def one_event_each(sizes):
    """Histories in strata of these sizes: history i is [i], its score the middle of its stratum."""
    stratum = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(0).permutation(len(stratum))
    return Sequences.from_lists([[i] for i in range(len(stratum))]), stratum[order], stratum[order] + 0.5


def chosen(selected):
    return selected.events().tolist()


@settings(max_examples=80)
@given(
    st.lists(st.integers(0, 30), min_size=2, max_size=8).map(lambda sizes: [max(1, sizes[0]), *sizes[1:-1], 5]),
    st.floats(0.001, 1.0),
    st.integers(0, 3),
)
def test_a_selection_has_the_size_of_its_control_and_misses_no_stratum_it_can_afford(sizes, share, seed):
    train, stratum, scores = one_event_each(sizes)
    rows = chosen(select_histories(train, share, scores, len(sizes), seed))
    control = chosen(select_histories(train, share, None, len(sizes), seed))
    assert len(rows) == len(control) == max(1, round(share * len(train)))
    for drawn in (rows, control):
        assert drawn == sorted(set(drawn))
    occupied = set(stratum.tolist())
    if len(rows) >= len(occupied):
        assert set(stratum[rows].tolist()) == occupied


def test_what_a_small_stratum_cannot_use_goes_evenly_to_the_larger_ones():
    train, stratum, scores = one_event_each([50, 1, 3, 46])
    rows = select_histories(train, 0.24, scores, strata=4)
    # 24 over four is 6: strata of 1 and 3 give all they have, the other two share the remaining 20.
    assert np.bincount(stratum[chosen(rows)]).tolist() == [10, 1, 3, 10]


def test_the_seed_decides_and_the_full_share_is_everything_with_an_event():
    train, _, scores = one_event_each([40, 30, 30])
    for s in (scores, None):
        draws = [chosen(select_histories(train, 0.2, s, 3, seed)) for seed in (1, 1, 2)]
        assert draws[0] == draws[1] != draws[2]
        assert chosen(select_histories(train, 1.0, s, 3)) == list(range(100))
    kept = select_histories(Sequences.from_lists(HISTORIES), 1.0, np.array([1, np.nan, 2, 2, 1, 5.0]))
    assert [h.tolist() for h in kept] == [h for h in HISTORIES if h]
    assert len(select_histories(Sequences.from_lists(HISTORIES), 0.4, None)) == 2


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, float("nan")])
def test_shares_out_of_bounds_are_refused(share):
    with pytest.raises(ConfigError, match="share"):
        select_histories(Sequences.from_lists([[1]]), share, None)


def test_scores_that_do_not_fit_are_refused():
    train = Sequences.from_lists([[1], [2]])
    with pytest.raises(TrainingError, match="1 scores for 2"):
        select_histories(train, 0.5, np.ones(1))
    with pytest.raises(TrainingError, match="finite"):
        select_histories(train, 0.5, np.array([1.0, np.nan]))
    with pytest.raises(ConfigError, match="strata"):
        select_histories(train, 0.5, None, strata=0)
    with pytest.raises(DataError, match="no training history"):
        select_histories(Sequences.from_lists([[], []]), 0.5, None)
