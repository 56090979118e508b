"""Chart geometry: whatever the numbers, every mark lies in the picture."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pocketrec.report.charts import Series, dot_chart, line_chart, log_bar_chart, rank_chart, share_chart

values = st.floats(-1e6, 1e6, allow_nan=False)
epochs = st.floats(0, 1e4, allow_nan=False)
points = st.lists(st.tuples(epochs, values), min_size=1, max_size=50).map(sorted)


def coordinates(path):
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", path)]


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


rows = st.lists(st.tuples(st.text(max_size=9), st.floats(1e-4, 1e5), st.integers(0, 5)), min_size=1, max_size=12)


@given(rows)
def test_lying_bars_stay_inside_the_frame_below_one_another_and_keep_their_names(drawn):
    chart = log_bar_chart(drawn, "words", title="milliseconds")
    assert [tick.label for tick in chart.y_ticks] == [name for name, _, _ in drawn]
    assert [bar.hue for bar in chart.bars] == [hue for _, _, hue in drawn]
    for bar, below in zip(chart.bars, [*chart.bars[1:], None], strict=True):
        assert bar.x == chart.left
        assert bar.x + bar.width <= chart.right + 0.1
        assert chart.top <= bar.y < bar.y + bar.height <= (below.y if below else chart.bottom)


def test_ten_times_the_value_is_one_power_of_ten_longer():
    chart = log_bar_chart([("a", 0.1, 0), ("b", 1.0, 0), ("c", 10.0, 0)], "words", title="")
    assert [tick.label for tick in chart.x_ticks] == ["0.1", "1", "10"]
    ends = [bar.x + bar.width for bar in chart.bars[1:]]
    assert ends == [tick.at for tick in chart.x_ticks[1:]]
