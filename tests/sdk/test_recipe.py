"""The recipe: settings follow from the data's size, stay within limits, and the same data gives the same settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from pocketrec.config import config_of, load_config, nested
from pocketrec.forecast import Machine, reference_seconds
from pocketrec.quickstart import DEFAULTS
from pocketrec.recipe import LABEL_BYTES, LOGIT_BYTES, MINUTES, Case, recipe
from pocketrec.runtime.errors import ConfigError
from pocketrec.sizes import DataFacts, bundle_parts, student_parameters

ROOT = Path(__file__).parents[2]
BEAUTY = DataFacts(22_363, 12_101, 198_502, text_bytes=1_417_183, name_bytes=858_903)
MOVIELENS = DataFacts(671, 9_066, 90_072, text_bytes=341_207, name_bytes=210_249)
SESSIONS = DataFacts(202_633, 43_097, 982_961, name_bytes=400_000, repeats=0.2)
HUGE = DataFacts(3_000_000, 1_000_000, 60_000_000, text_bytes=60_000_000, name_bytes=40_000_000)
ALL = {"beauty": BEAUTY, "movielens": MOVIELENS, "sessions": SESSIONS, "huge": HUGE}


def chosen(facts, **more):
    return config_of(nested(recipe(Case(facts, **more)).settings))


@pytest.mark.parametrize("facts", ALL.values(), ids=ALL)
@pytest.mark.parametrize("size", ["small", "medium", "large"])
def test_a_committee_teaches_and_the_bundle_has_experts_and_int8_whatever_the_data(facts, size):
    config = chosen(facts, size=size)
    assert config.teacher.enabled
    assert config.experts.enabled
    assert config.export.quantize == "int8"


def test_beauty_gets_the_tuned_configuration_and_movielens_the_quickstarts():
    beauty, tuned = chosen(BEAUTY), load_config(ROOT / "benchmarks" / "beauty-teacher.toml")
    assert (beauty.student, beauty.distill) == (tuned.student, tuned.distill)
    assert beauty.soft_labels == tuned.soft_labels
    movielens, quick = chosen(MOVIELENS), config_of(DEFAULTS)
    assert (movielens.sid, movielens.distill) == (quick.sid, quick.distill)
    assert movielens.sasrec == quick.sasrec


@pytest.mark.parametrize(("size", "low", "high"), [("small", 3e5, 6e5), ("medium", 8e5, 1.1e6), ("large", 3.5e6, 5e6)])
def test_a_size_is_a_number_of_parameters(size, low, high):
    for facts in (BEAUTY, MOVIELENS, SESSIONS):
        config = chosen(facts, size=size)
        assert low <= student_parameters(config.student, config.sid, facts.items) <= high


def test_the_committee_has_no_sasrec_where_the_user_leaves_it_out():
    case = Case(BEAUTY, own={"sasrec": {"enabled": False}})
    assert case.config(recipe(case).settings).soft_labels.members == ("graph",)


def test_without_a_teacher_the_student_learns_from_the_log_alone_and_keeps_its_experts():
    config = chosen(BEAUTY, teacher=False)
    assert not config.teacher.enabled
    assert (config.student.pair_dim, config.experts.enabled) == (0, True)


def test_where_people_come_back_to_items_repeats_are_not_penalised():
    assert chosen(SESSIONS).train.unlikelihood == 0
    assert chosen(BEAUTY).train.unlikelihood > 0


@pytest.mark.parametrize("facts", ALL.values(), ids=ALL)
def test_memory_is_bounded(facts):
    config = chosen(facts)
    labels = config.soft_labels
    minimum = 16 * facts.positions * 6
    assert facts.positions * (1 + labels.copies) * labels.top * 6 <= max(LABEL_BYTES, minimum)
    batch = config.sasrec.train.batch_size
    lengths = min(facts.positions / facts.users, 20)
    assert batch * lengths * facts.items * 4 <= LOGIT_BYTES or batch <= 32


def test_time_is_bounded_on_two_cores_and_more_cores_do_more_in_it():
    assert sum(reference_seconds(chosen(BEAUTY), BEAUTY).values()) <= 60 * MINUTES["medium"]
    assert chosen(SESSIONS, machine=Machine(8)).train.epochs >= chosen(SESSIONS).train.epochs
    assert chosen(HUGE).train.epochs == chosen(HUGE).sasrec.train.epochs == 4  # no fewer, however long it takes


@pytest.mark.parametrize("limit", [1_600_000, 2_000_000, 2_500_000, 4_000_000])
def test_a_bundle_is_planned_within_the_bytes_allowed(limit):
    config = chosen(BEAUTY, max_bytes=limit)
    assert sum(bundle_parts(config, BEAUTY).values()) <= limit


def test_more_bytes_give_a_larger_student_up_to_the_size_asked_for():
    sizes = [
        student_parameters(config.student, config.sid, BEAUTY.items)
        for limit in (1_600_000, 2_000_000, 3_000_000, 9_000_000)
        for config in [chosen(BEAUTY, size="large", max_bytes=limit)]
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < 400_000 < 4e6 < sizes[-1]
    assert chosen(BEAUTY, max_bytes=9_000_000).student == chosen(BEAUTY).student  # medium stays medium


def test_the_users_own_settings_count_when_bytes_are_planned():
    own = {"student": {"dim": 32, "heads": 1, "kv_heads": 1, "ffn": 32, "decoder_dim": 32}, "export": {"titles": False}}
    config = config_of(own, nested(recipe(Case(BEAUTY, max_bytes=1_000_000, own=own)).settings))
    assert config.student.dim == 32
    assert sum(bundle_parts(config, BEAUTY).values()) <= 1_000_000


def test_what_cannot_fit_is_refused_with_the_sizes_of_the_parts():
    with pytest.raises(ConfigError, match=r"does not fit into 1\.00 MB: student .*titles of the items 0\.9. MB"):
        recipe(Case(BEAUTY, max_bytes=1_000_000))


def test_every_choice_that_follows_from_the_data_is_told():
    assert any("long histories" in reason for reason in recipe(Case(MOVIELENS)).reasons)
    assert any("smaller" in reason for reason in recipe(Case(BEAUTY, max_bytes=2_000_000)).reasons)
    assert recipe(Case(BEAUTY)) == recipe(Case(BEAUTY))
