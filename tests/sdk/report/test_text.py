"""How the report writes numbers."""

from __future__ import annotations

import pytest

from pocketrec.report.text import change, duration, fact, label, number, percent, score, setting, size


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        (number, 12101, "12,101"),
        (number, 12101.6, "12,102"),
        (number, -2.50712, "−2.507"),
        (number, 3.0, "3"),
        (number, None, "–"),
        (score, -2.1, "−2.10"),
        (score, 0.0, "0.00"),
        (score, 0.00004, "4.0e−05"),
        (score, None, "–"),
        (percent, 0.0, "0 %"),
        (percent, 0.00001, "<0.01 %"),
        (percent, 0.00073, "0.073 %"),
        (percent, 0.0849, "8.5 %"),
        (percent, 0.727, "72.7 %"),
        (percent, 0.99999, ">99.9 %"),
        (percent, 1.0, "100 %"),
        (percent, None, "–"),
        (size, 10, "10 bytes"),
        (size, 4812, "4.81 kB"),
        (size, 251_332, "251 kB"),
        (size, 6_035_804, "6.04 MB"),
        (size, 2.5e9, "2.50 GB"),
        (duration, 0.41, "410 ms"),
        (duration, 3.21, "3.2 s"),
        (duration, 59.97, "1 min 00 s"),
        (duration, 903.3, "15 min 03 s"),
        (duration, 7325.0, "2 h 02 min"),
        (label, "split_rule", "Split rule"),
        (label, "sasrec", "SASRec"),
        (setting, True, "true"),
        (setting, None, "–"),
        (setting, [1, "a"], "1, a"),
        (setting, {"a": 1}, "{'a': 1}"),
    ],
)
def test_a_value_is_written(write, value, text):
    assert write(value).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("value", "base", "text"),
    [
        (0.08, 0.1, "−20.0 %"),
        (0.11, 0.1, "+10.0 %"),
        (0.3, 0.1, "+200 %"),
        (0.1, 0.1, "±0 %"),
        (0.1, 0.0, ""),
    ],
)
def test_a_change_has_its_sign(value, base, text):
    assert change(value, base).replace("\N{NO-BREAK SPACE}", " ") == text


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("density", 0.5, "50 %"),
        ("users", 1000, "1,000"),
        ("sorted", True, "yes"),
        ("split", "global", "global"),
    ],
)
def test_a_fact_is_written_by_what_it_is(name, value, text):
    assert fact(name, value).replace("\N{NO-BREAK SPACE}", " ") == text
