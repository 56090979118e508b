"""Explanations with crowd and words: by hand, and the score that `recommend` gives on every engine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from device_engines import DEVICE_ENGINES
from experts import crowd_of, random_crowd, random_words
from pocketrec.distill.experts.words import SHARPNESS, build_words
from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle
from pocketrec.export.experts import BundleExperts
from pocketrec.export.refresh import Resemblances, write_refreshed
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.experts.weights import FusionWeights
from pocketrec.runtime.recommender import Recommender
from tiny import CODES, SPACE, brute_force, random_rows, tiny_student

TITLES = ["Vegan shampoo", "Soap", "shampoo bar", "bar soap", "Vegan shampoo bar", "Candle"]
N = 40
IDS = [f"item-{i}" for i in range(N)]


def write(folder, experts, n, titles=None):
    items = BundleItems(random_rows(n), IDS[:n], titles, SPACE)
    write_bundle(folder, tiny_student(), items, BundleSettings(n, CODES), experts=experts)
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Six items, all equally popular; 0 leads to 4 three times, 1 to 4 and to 5 once."""
    crowd = crowd_of({0: {4: 3.0}, 1: {4: 1.0, 5: 1.0}}, 6)
    experts = BundleExperts(crowd, build_words(TITLES), FusionWeights(crowd=1.0, words=2.0))
    return write(tmp_path_factory.mktemp("small") / "b", experts, 6, TITLES)


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    weights = FusionWeights(crowd=0.6, words=2.0, seen=-1.5)
    return write(
        tmp_path_factory.mktemp("larger") / "b", BundleExperts(random_crowd(N, 3), random_words(N, 3), weights), N
    )


@pytest.fixture(scope="module", params=DEVICE_ENGINES)
def rec(request, larger):
    with Recommender.load(larger, request.param) as recommender:
        yield recommender


def test_parts_by_hand(small):
    with Recommender.load(small) as recommender:
        found = recommender.explain(["item-0", "item-1"], "item-4")
    sequence, crowd, words = found.parts
    assert [part.name for part in found.parts] == ["sequence", "crowd", "words"]

    def model(*history):
        return float(brute_force(tiny_student(), random_rows(6)[list(history)], random_rows(6))[4])

    # Item 1 is the newest: 1 arrives at 4 and at 5 from it, and half of 3 at 4 from item 0.
    floor = math.log(0.1 / 6)
    term = math.log(0.9 * 2.5 / 3.5 + 0.1 / 6)
    assert crowd.term == pytest.approx(term, abs=1e-5)
    assert crowd.rise == pytest.approx(term - floor, abs=1e-5)
    assert dict(crowd.history) == pytest.approx(
        {"item-0": term - math.log(0.9 * 0.5 + 0.1 / 6), "item-1": term - math.log(0.9 + 0.1 / 6)}, abs=1e-5
    )

    vegan, shampoo = ((math.log(7 / n) + 1) ** SHARPNESS for n in (3, 4))  # "bar" is in three titles too
    cosine = math.sqrt((vegan**2 + shampoo**2) / (vegan**2 + 2 * shampoo**2))
    assert words.term == words.rise == pytest.approx(2 * 0.5 * cosine, abs=1e-5)
    assert dict(words.history) == pytest.approx({"item-0": cosine, "item-1": -cosine}, abs=1e-5)
    assert words.shared == (("item-0", ("vegan", "shampoo")),)

    assert sequence.term == pytest.approx(model(0, 1), abs=1e-4)
    assert sequence.rise == pytest.approx(model(0, 1) - model(), abs=1e-4)
    assert dict(sequence.history) == pytest.approx(
        {"item-0": model(0, 1) - model(1), "item-1": model(0, 1) - model(0)}, abs=1e-4
    )

    rises = [max(part.rise, 0) for part in found.parts]
    assert [part.share for part in found.parts] == pytest.approx([rise / sum(rises) for rise in rises])
    assert found.score == pytest.approx(sum(part.term for part in found.parts))
    assert sum(found.levels) == pytest.approx(sequence.term)
    for n, (_, change) in enumerate(found.history):
        assert change == pytest.approx(sum(part.history[n][1] for part in found.parts))
    assert found.sentence.startswith("Because ")
    assert "item-" not in found.sentence  # titles are known


def test_the_sentence_says_what_the_strongest_part_is(small):
    with Recommender.load(small) as recommender:
        found = recommender.explain(["item-0"], "item-4")
    strongest = max(found.parts, key=lambda part: part.share)
    assert strongest.name == "crowd"
    assert found.sentence.startswith("Because people who took Vegan shampoo took it soon after")


@pytest.mark.parametrize("history", [[], IDS[3:4], [IDS[i] for i in (5, 1, 9, 30, 2, 7, 8, 11, 5)]])
def test_the_score_is_that_of_recommend(rec, history):
    listed = {item.item_id: item.score for item in rec.recommend(history, N, exclude_seen=False)}
    assert len(listed) == N
    for item in (*history[:2], *IDS[20:24]):
        found = rec.explain(history, item)
        assert found.score == pytest.approx(listed[item], abs=1e-3)
        assert sum(part.share for part in found.parts) == pytest.approx(1)
        assert sum(part.term for part in found.parts) + found.added == pytest.approx(found.score)
        assert [name for name, _ in found.history] == history
        assert rec.session(history).explain(item) == found
        if history:
            rest = {i.item_id: i.score for i in rec.recommend(history[1:], N, exclude_seen=False)}
            assert found.history[0][1] == pytest.approx(listed[item] - rest[item], abs=1e-3)


def test_a_control_adds_its_bias_and_a_part_of_the_catalogue_changes_nothing(rec):
    history = IDS[3:6]
    control = rec.control(allow=IDS[10:30], bias={IDS[12]: 2.5})
    listed = {i.item_id: i.score for i in rec.recommend(history, 20, control=control)}
    for item in (IDS[12], IDS[20]):
        found, free = rec.explain(history, item, control), rec.explain(history, item)
        assert found.score == pytest.approx(listed[item], abs=1e-3)
        assert found.added == (2.5 if item == IDS[12] else 0.0)
        assert found.parts == free.parts
    with pytest.raises(ConfigError, match="does not allow item 'item-35'"):
        rec.explain(history, IDS[35], control)


def test_without_experts_all_of_it_is_the_sequence(larger):
    with Recommender.load(larger, experts=False) as recommender:
        for history in ([], IDS[3:6]):
            (part,) = recommender.explain(history, IDS[20]).parts
            assert (part.name, part.share) == ("sequence", 1.0)


def test_a_cold_item_has_the_score_of_recommend(tmp_path, larger):
    """Items 36 to 39 are cold; each resembles three others."""
    trie = ItemTrie.from_rows(random_rows(N), IDS, codes_per_level=CODES, sid_space=SPACE)
    row = trie.table.find(IDS)
    cold = sorted(range(36, 40), key=lambda i: row[i])
    near = Resemblances(
        row[cold].astype(np.int32), np.tile(row[[1, 2, 8]], 4).astype(np.int32),
        np.ones(12, np.float16), np.full(4, 3, np.uint8),
    )  # fmt: skip
    write_refreshed(open_bundle(larger), trie, tmp_path / "b", near)
    history = [IDS[i] for i in (4, 2, 1)]
    with Recommender.load(tmp_path / "b") as recommender:
        listed = {item.item_id: item.score for item in recommender.recommend(history, N - 3)}
        for i in cold:
            found = recommender.explain(history, IDS[i])
            assert found.resembles
            assert found.score == pytest.approx(listed[IDS[i]], abs=1e-3)
            assert found.parts[0].term > sum(found.levels)  # as those that it resembles
