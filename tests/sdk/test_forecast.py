"""Expected times: larger data takes longer, a GPU shortens training alone, and the reference runs come out."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from pocketrec.config import config_of
from pocketrec.forecast import Machine, machine_speed, on_this_machine, reference_seconds
from pocketrec.quickstart import DEFAULTS
from pocketrec.sizes import DataFacts

MOVIELENS = DataFacts(671, 9_066, 90_072, text_bytes=341_207, name_bytes=210_249)
# Seconds of the quickstart on two idle cores, by stage; distil: 14 epochs before the pair table became faster.
MEASURED = {"text": 25.7, "sids": 4.6, "sasrec": 29.0, "soft-labels": 15.1}


def test_the_quickstarts_stages_take_about_what_was_measured():
    expected = reference_seconds(config_of(DEFAULTS), MOVIELENS)
    for name, seconds in MEASURED.items():
        assert expected[name] == pytest.approx(seconds, rel=0.6)


def test_twice_the_epochs_take_about_twice_as_long():
    config = config_of(DEFAULTS)
    longer = replace(config, train=replace(config.train, epochs=2 * config.train.epochs))
    once, twice = (reference_seconds(c, MOVIELENS)["distill"] for c in (config, longer))
    assert twice == pytest.approx(2 * once, rel=0.05)


def test_a_gpu_makes_training_faster_and_reading_no_faster():
    reference = {"data": 4.0, "distill": 100.0}
    machine = Machine(2, gpu=True)
    assert machine_speed(machine) == machine.speed > 1
    assert on_this_machine(reference, machine, 20.0) == {"data": 4.0, "distill": 5.0}
    assert on_this_machine(reference, Machine(), 0.5) == {"data": 8.0, "distill": 200.0}


def test_this_machine_has_a_speed():
    assert 0 < machine_speed(Machine(), seconds=0.05) < 10
    assert Machine.here().cores >= 1
