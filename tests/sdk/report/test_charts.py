"""Chart geometry: whatever the numbers, every mark lies in the picture, and ticks are round and in order."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pocketrec.report.charts import Series, dot_chart, line_chart, make_axis, nice_step, rank_chart, share_chart, thin

values = st.floats(-1e6, 1e6, allow_nan=False)
epochs = st.floats(0, 1e4, allow_nan=False)
points = st.lists(st.tuples(epochs, values), min_size=1, max_size=50).map(sorted)


def coordinates(path):
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


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


@given(st.lists(points, min_size=1, max_size=3), st.booleans())
def test_lines_stay_inside_the_frame(lines, from_zero):
    chart = line_chart([Series("a line", i, line) for i, line in enumerate(lines)], "words", from_zero=from_zero)
    for line, drawn in zip(lines, chart.lines, strict=True):
        at = coordinates(drawn.path)
        assert len(at) == len(line)
        assert all(chart.left <= x <= chart.right and 0 <= y <= chart.bottom for x, y in at)


def test_higher_is_drawn_higher_and_later_further_right():
    (line,) = line_chart([Series("up", 0, [(0.0, 1.0), (1.0, 2.0), (2.0, 3.0)])], "words").lines
    xs, ys = zip(*coordinates(line.path), strict=True)
    assert list(xs) == sorted(xs)
    assert list(ys) == sorted(ys, reverse=True)


def test_the_marked_point_stands_out_and_the_others_do_not():
    (line,) = line_chart([Series("up", 0, [(0.0, 1.0), (1.0, 3.0), (2.0, 2.0)], marked=(1.0, 3.0))], "words").lines
    assert [dot.marked for dot in line.dots] == [False, True, False]
    assert line.dots[1].label == "up, epoch 1: 3"


@example([("", (1.0, 0.22)), ("", (1.0, 0.2401)), ("", (1.0, 0.0))])
@given(
    st.lists(
        st.tuples(
            st.text(max_size=9), st.tuples(st.floats(1e-6, 1e3), st.floats(0, 1e4).map(lambda v: round(v) / 1e4))
        ),
        min_size=1,
        max_size=6,
    )
)
def test_named_points_stay_inside_the_frame_and_keep_their_names(named):
    chart = dot_chart(named, "words", x_label="megabytes")
    dots = chart.lines[1].dots
    assert [dot.name for dot in dots] == [name for name, _ in named]
    assert all(chart.left <= dot.x <= chart.right and 0 <= dot.y <= chart.bottom for dot in dots)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=600))
def test_code_use_descends_from_left_to_right(counts):
    counts = sorted(counts, reverse=True)
    chart = rank_chart(counts, counts[0], sum(counts) / len(counts), "words")
    first, *steps, last = coordinates(chart.area)
    assert (first[0], last[0]) == (chart.left, chart.right)
    assert [x for x, _ in steps] == sorted(x for x, _ in steps)
    assert [y for _, y in steps] == sorted(y for _, y in steps)


def test_bars_are_as_tall_as_their_shares():
    chart = share_chart([0.75, 0.25], [0.5, 0.5], ["1", "2"], 0.75, "words", x_label="items")
    tall, short = chart.bars
    assert tall.height == pytest.approx(3 * short.height, abs=0.2)
    assert [bar.y + bar.height for bar in chart.bars] == pytest.approx([chart.bottom] * 2)
    assert [tick.label for tick in chart.x_ticks] == ["1", "2"]


def test_long_labels_of_bins_stand_at_the_ends_only():
    ticks = share_chart([0.5] * 3, [0.5] * 3, ["popular", "middle", "rare"], 0.5, "words", x_label="items").x_ticks
    assert [(tick.label, tick.anchor) for tick in ticks] == [("popular", "start"), ("rare", "end")]


@given(st.lists(st.tuples(epochs, values), max_size=100), st.integers(1, 20))
def test_thinning_keeps_short_lines_and_the_mean_of_long_ones(line, limit):
    thinned = thin(line, limit)
    assert len(thinned) == min(len(line), limit)
    if len(line) <= limit:
        assert thinned == line
    if line and len(line) % limit == 0:
        mean = sum(y for _, y in line) / len(line)
        assert sum(y for _, y in thinned) / len(thinned) == pytest.approx(mean, abs=1e-6)
