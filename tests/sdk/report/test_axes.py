"""Axes: ticks are round, evenly spaced and in order, whatever the range."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.report.axes import make_axis, nice_step, thin

values = st.floats(-1e6, 1e6, allow_nan=False)
epochs = st.floats(0, 1e4, allow_nan=False)


@pytest.mark.parametrize(
    ("span", "count", "step"),
    [(10, 5, 2), (10, 4, 5), (0.0825, 5, 0.02), (1, 1, 1), (7, 1, 10), (300, 5, 100)],
)
def test_a_step_is_the_smallest_round_number_that_suffices(span, count, step):
    assert nice_step(span, count) == pytest.approx(step)


@given(values, values, st.integers(1, 10), st.booleans(), st.booleans())
def test_ticks_ascend_evenly_within_the_axis(a, b, count, snap, whole):
    axis = make_axis(min(a, b), max(a, b), 0.0, 1000.0, count=count, snap=snap, whole=whole)
    at = [tick.at for tick in axis.ticks]
    assert at == sorted(at)
    assert all(-0.1 <= place <= 1000.1 for place in at)
    assert len(at) <= count + 2
    if snap:
        assert (at[0], at[-1]) == (0.0, 1000.0)


def test_whole_axes_have_whole_labels():
    assert [tick.label for tick in make_axis(0, 2, 0, 100, count=6, whole=True).ticks] == ["0", "1", "2"]


def test_small_steps_have_short_labels():
    labels = [tick.label for tick in make_axis(0, 3e-5, 0, 100, count=3, snap=True).ticks]
    assert labels == ["0", "1e-05", "2e-05", "3e-05"]


@given(st.lists(st.tuples(epochs, values), max_size=100), st.integers(1, 20))
def test_thinning_keeps_short_lines_and_the_mean_of_long_ones(line, limit):
    thinned = thin(line, limit)
    assert len(thinned) == min(len(line), limit)
    if len(line) <= limit:
        assert thinned == line
    if line and len(line) % limit == 0:
        mean = sum(y for _, y in line) / len(line)
        assert sum(y for _, y in thinned) / len(thinned) == pytest.approx(mean, abs=1e-6)
