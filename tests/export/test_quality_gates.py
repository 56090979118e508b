"""Gates compare what the files recommend, and refuse a loss by name, but not one that may be chance."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.data.splits import EvalSet, Sequences
from pocketrec.distill.evaluation.metrics import Difference, paired_loss
from pocketrec.export.quality_gates import QualityGate, agreement, judge, measure_quality_gates, refuse_losses
from pocketrec.runtime.errors import ExportError
from tiny import random_rows, tiny_bundle, tiny_student

ITEMS = 40
IDS = [f"item-{i}" for i in range(ITEMS)]


@pytest.fixture(scope="module")
def gates(tmp_path_factory):
    folder, rows = tmp_path_factory.mktemp("gates"), random_rows(ITEMS)
    good, bad = tiny_student(), tiny_student()
    with torch.no_grad():
        bad.decoder.out[0].weight.neg_()
        bad.decoder.out[0].bias.neg_()
    same, worse = tiny_bundle(folder / "same", good, rows), tiny_bundle(folder / "worse", bad, rows)
    generator = np.random.default_rng(0)
    histories = Sequences.from_lists([generator.integers(0, ITEMS, n % 5 + 1).tolist() for n in range(60)])
    questions = EvalSet(histories, generator.integers(0, ITEMS, 60).astype(np.int32))
    return measure_quality_gates([("first", same), ("again", same), ("worse", worse)], ids_of(same), questions)


def ids_of(folder):
    from pocketrec.runtime.recommender import Recommender

    with Recommender.load(folder) as recommender:
        return recommender.trie.table.ids(range(ITEMS))


def test_the_same_files_agree_and_others_do_not(gates):
    first, again, worse = gates
    assert (again.agreement, again.ndcg, again.bytes) == (1.0, first.ndcg, first.bytes)
    assert worse.agreement < 0.9
    assert first.peak_mb > 10
    assert first.p50_ms > 0


def test_rows_have_their_published_names(gates):
    assert set(gates[0].to_dict()) == {
        "artifact", "bytes", "recall@10", "ndcg@10", "agreement@10", "p50_ms", "peak_mb",
        "questions", "loss", "loss_low", "loss_high", "verdict",
    }  # fmt: skip


def test_agreement_is_the_share_of_shared_items_in_any_order():
    first = np.array([[1, 2, 3, 4], [5, 6, -1, -1], [-1, -1, -1, -1]], np.int32)
    other = np.array([[4, 3, 9, 8], [6, 7, 5, 1], [1, 2, 3, 4]], np.int32)
    assert agreement(first, other) == pytest.approx((0.5 + 1.0 + 1.0) / 3)


def test_the_same_files_lost_nothing_and_pass_however_few_the_questions(gates):
    assert (gates[1].verdict, gates[1].loss, gates[1].loss_low, gates[1].loss_high) == ("passed", 0, 0, 0)
    assert gates[1].questions == 60


def gate(artifact, ndcg, verdict, low=0.0, high=0.3):
    return QualityGate(artifact, 10, 0.1, ndcg, 1.0, 1.0, 50.0, 671, 1 - ndcg / 0.05, low, high, verdict)


def test_a_loss_is_refused_with_the_row_that_failed():
    first, close, far = gate("onnx none", 0.05, "passed"), gate("int8", 0.0495, "passed"), gate("int4", 0.04, "failed")
    refuse_losses([first, close], 0.02)
    with pytest.raises(ExportError, match=r"int4 has ndcg@10 0\.0400, onnx none 0\.0500: a loss of 20\.0% \(0\.0%"):
        refuse_losses([first, close, far], 0.02)


def test_too_few_questions_are_refused_only_if_that_is_asked_for():
    first, unclear = gate("onnx none", 0.05, "passed"), gate("int8", 0.048, "undecided", -0.05, 0.11)
    refuse_losses([first, unclear], 0.02)
    with pytest.raises(ExportError, match=r"int8 .* 671 questions are not enough to tell .* --strict"):
        refuse_losses([first, unclear], 0.02, strict=True)


@pytest.mark.parametrize(
    ("low", "loss", "high", "verdict"),
    [
        (0.03, 0.05, 0.07, "failed"),  # surely above the limit of 2 %
        (-0.01, 0.005, 0.019, "passed"),  # surely within
        (-0.005, 0.01, 0.025, "passed"),  # within, and known to 2 %
        (-0.06, 0.01, 0.08, "undecided"),  # within, but known to 7 % only
        (0.01, 0.03, 0.05, "undecided"),  # above, but perhaps by chance
        (-0.2, -0.1, 0.01, "passed"),
    ],
)
def test_a_verdict_follows_from_the_loss_and_its_bounds(low, loss, high, verdict):
    assert judge(Difference(loss, low, high), 0.02) == verdict


def verdicts(questions, demoted, trials=200):
    """Shares of verdicts on simulated ranks: half of the hits stay where they are, the others move by chance.

    demoted: share of the hits that fall out of the list; about that share of ndcg@10 is truly lost.
    """
    generator = np.random.default_rng(7)
    found = []
    for _ in range(trials):
        ranks = np.where(generator.random(questions) < 0.15, generator.integers(0, 10, questions), -1).astype(np.int32)
        moved = np.clip(ranks + generator.integers(-1, 2, questions), 0, 9)  # as much up as down
        changed = np.where((ranks >= 0) & (generator.random(questions) < 0.5), moved, ranks)
        changed = np.where(generator.random(questions) < demoted, -1, changed).astype(np.int32)
        found.append(judge(paired_loss(ranks, changed, "ndcg@10", samples=1000), 0.02))
    return {name: found.count(name) / trials for name in ("passed", "undecided", "failed")}


@pytest.mark.parametrize("questions", [300, 671, 4000])
def test_an_export_whose_loss_is_at_the_limit_fails_by_chance_in_about_one_of_twenty_cases(questions):
    assert verdicts(questions, 0.02)["failed"] <= 0.1  # 5 % in theory; 200 trials
    assert verdicts(questions, 0.0)["failed"] <= 0.02


def test_a_large_loss_fails_and_a_small_one_passes_where_there_are_questions_enough():
    assert verdicts(4000, 0.1)["failed"] >= 0.95
    assert verdicts(4000, 0.0)["passed"] >= 0.95
    assert verdicts(671, 0.2)["failed"] >= 0.9
    few = verdicts(300, 0.02)
    assert few["undecided"] > 0.3  # is said, not guessed
