"""`pocketrec catalog refresh --interactions`: crowd and words follow newer data, under the same model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from command import pocketrec, train_ring, write_ring

from pocketrec import Recommender
from pocketrec.runtime.bundle.bundle import GRAPH_FILE, WORDS_FILE, open_bundle
from pocketrec.runtime.session import model_id

HEADER = "user_id,item_id,timestamp\n"
SETTINGS = ("--set", "experts.enabled=true", "--set", "train.epochs=1")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run whose bundle has crowd and words, whatever validation says of the words."""
    folder = write_ring(tmp_path_factory.mktemp("ring"))
    code, _, errors = train_ring(folder, folder / "run", *SETTINGS)
    assert code == 0, errors
    fusion = folder / "run/experts/fusion.json"
    fusion.write_text(json.dumps({**json.loads(fusion.read_text()), "crowd": 1.5, "words": 2.0}))
    code, _, errors = pocketrec("export", folder / "run", "--max-drop", "1", "--out", folder / "run/export/bundle")
    assert code == 0, errors
    return folder / "run"


@pytest.fixture
def newer(tmp_path):
    """People of the training log and others now go from i10 to i40; an item that nobody knows is among it."""
    lines = [f"{'u' if user % 2 else 'v'}{user},{item},{1_700_000_000 + step}\n" for user in range(150)
             for step, item in enumerate(("i10", "i40"))]  # fmt: skip
    (tmp_path / "newer.csv").write_text(HEADER + "".join(lines) + "w1,unknown,1700000000\n")
    return tmp_path / "newer.csv"


def refresh(model, out, *more):
    code, printed, errors = pocketrec("catalog", "refresh", model, "--out", out, "--json", *more)
    assert code == 0, errors
    return json.loads(printed)


def edges(bundle):
    """{item: {next item: weight}} of a bundle's crowd."""
    opened = open_bundle(bundle)
    trie = opened.load_trie()
    crowd, names = opened.load_experts(len(trie)).crowd, trie.table.ids(np.arange(len(trie)))
    return {
        name: {names[j]: float(w) for j, w in zip(crowd.neighbours[a:b], crowd.weights[a:b], strict=True)}
        for name, a, b in zip(names, crowd.first[:-1], crowd.first[1:], strict=True)
    }


def strongest(bundle, item):
    return max(edges(bundle)[item].items(), key=lambda pair: pair[1])[0]


def test_a_newer_log_is_joined_with_that_of_training(run, newer, tmp_path):
    assert strongest(run / "export/bundle", "i10") == "i11"
    done = refresh(run, tmp_path / "out", "--interactions", newer)
    assert strongest(tmp_path / "out", "i10") == "i40"
    assert strongest(tmp_path / "out", "i20") == "i21"  # of the training log
    experts = done["experts"]
    assert experts["crowd"] == "rebuilt"
    assert (experts["training_events"], experts["events"], experts["unknown_events"]) == (1600, 1900, 1)
    assert (done["added"], done["removed"], done["kept"]) == (0, 0, 60)


def test_alone_the_newer_log_is_all_that_counts(run, newer, tmp_path):
    done = refresh(run, tmp_path / "out", "--interactions", newer, "--alone")
    found = edges(tmp_path / "out")
    assert strongest(tmp_path / "out", "i10") == "i40"
    assert found["i20"] == {}
    assert (done["experts"]["training_events"], done["experts"]["events"]) == (0, 300)


def test_events_of_the_training_log_count_once_however_often_they_are_given(run, tmp_path):
    once = refresh(run, tmp_path / "once", "--interactions", run.parent / "log.csv")
    alone = refresh(run, tmp_path / "alone", "--interactions", run.parent / "log.csv", "--alone")
    assert once["experts"]["events"] == alone["experts"]["events"] == 1600
    assert (tmp_path / "once" / GRAPH_FILE).read_bytes() == (tmp_path / "alone" / GRAPH_FILE).read_bytes()


def test_model_weights_of_fusion_and_other_files_stay(run, newer, tmp_path):
    refresh(run, tmp_path / "out", "--interactions", newer)
    old, new = open_bundle(run / "export/bundle").manifest, open_bundle(tmp_path / "out").manifest
    assert model_id(old) == model_id(new)
    assert (old.fusion, old.model) == (new.fusion, new.model)
    changed = {name for name in old.files if old.files[name] != new.files[name]}
    assert changed - {"README.md"} == {GRAPH_FILE}


def test_the_settings_of_the_run_are_respected(run, tmp_path):
    lines = [f"p{user},{item},{1_700_000_000 + step}\n" for user in range(3)
             for step, item in enumerate(("i10", "i40" if user else "i50"))]  # fmt: skip
    (tmp_path / "few.csv").write_text(HEADER + "".join(lines))
    strict = shutil.copytree(run, tmp_path / "strict")
    config = json.loads((strict / "config.json").read_text())
    config["experts"] |= {"min_users": 2, "neighbours": 1}
    (strict / "config.json").write_text(json.dumps(config))
    refresh(strict, tmp_path / "out", "--interactions", tmp_path / "few.csv", "--alone")
    found = edges(tmp_path / "out")
    assert (found["i10"].keys(), found["i50"]) == ({"i40"}, {})  # the pair with i50 is one person's
    config["data"]["user"] = "item_id"
    config["data"]["item"] = "user_id"
    (strict / "config.json").write_text(json.dumps(config))
    code, _, errors = pocketrec(
        "catalog", "refresh", strict, "--interactions", tmp_path / "few.csv", "--out", tmp_path / "o"
    )
    assert code == 1
    assert "none of the 6 events" in errors


def with_new_item(run, path):
    path.write_text((run.parent / "items.csv").read_text() + 'new,"Thing, number 5",kind 0\n')
    return path


def test_a_new_item_has_words_at_once_and_edges_once_people_use_it(run, tmp_path):
    items = with_new_item(run, tmp_path / "items.csv")
    done = refresh(run, tmp_path / "out", "--items", items)
    assert (done["added"], done["experts"]["words"], done["experts"]["crowd"]) == (1, "rebuilt", "carried over")
    opened = open_bundle(tmp_path / "out")
    trie = opened.load_trie()
    words, row = opened.load_experts(len(trie)).words, int(trie.table.find(["new"])[0])
    assert words.first[row + 1] > words.first[row]
    assert edges(tmp_path / "out")["new"] == {}
    log = tmp_path / "log.csv"
    log.write_text(HEADER + "".join(f"n{u},{item},{1_700_000_000 + s}\n" for u in range(20)
                                    for s, item in enumerate(("i33", "new"))))  # fmt: skip
    refresh(run, tmp_path / "later", "--interactions", log, "--bundle", tmp_path / "out")
    assert "new" in edges(tmp_path / "later")["i33"]
    assert (tmp_path / "later" / WORDS_FILE).read_bytes() == (tmp_path / "out" / WORDS_FILE).read_bytes()
    with Recommender.load(tmp_path / "later") as later:
        assert "new" in [item.item_id for item in later.recommend(["i33"], k=10)]


def test_a_bundle_alone_is_refreshed_from_its_own_settings(run, newer, tmp_path):
    bundle = shutil.copytree(run / "export/bundle", tmp_path / "published")
    done = refresh(bundle, tmp_path / "out", "--interactions", newer)
    refresh(run, tmp_path / "same", "--interactions", newer, "--alone")
    assert done["experts"]["training_events"] == 0
    assert (tmp_path / "out" / GRAPH_FILE).read_bytes() == (tmp_path / "same" / GRAPH_FILE).read_bytes()
    assert model_id(open_bundle(tmp_path / "out").manifest) == model_id(open_bundle(bundle).manifest)


def test_a_bundle_alone_loses_items_and_takes_no_new_ones(run, tmp_path):
    bundle = run / "export/bundle"
    lines = (run.parent / "items.csv").read_text().splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:-5]) + "\n")
    done = refresh(bundle, tmp_path / "fewer", "--items", tmp_path / "fewer.csv")
    assert (done["added"], done["removed"], done["kept"]) == (0, 5, 55)
    assert done["experts"]["words"] == "rebuilt"
    refresh(run, tmp_path / "same", "--items", tmp_path / "fewer.csv")
    for name in ("trie.safetensors", GRAPH_FILE, WORDS_FILE):
        assert (tmp_path / "fewer" / name).read_bytes() == (tmp_path / "same" / name).read_bytes()
    items = with_new_item(run, tmp_path / "items.csv")
    code, _, errors = pocketrec("catalog", "refresh", bundle, "--items", items, "--out", tmp_path / "o")
    assert code == 2
    assert "cannot give them semantic IDs" in " ".join(errors.split())
    assert not (tmp_path / "o").exists()


def test_cold_items_stay_cold_when_only_the_crowd_is_new(run, newer, tmp_path):
    items = with_new_item(run, tmp_path / "items.csv")
    refresh(run, tmp_path / "out", "--items", items)
    for model, more in ((run, ("--bundle", tmp_path / "out")), (tmp_path / "out", ())):
        done = refresh(model, tmp_path / "later", "--interactions", newer, *more)
        assert done["cold"] == 1
        before, after = (open_bundle(tmp_path / name).load_cold(61) for name in ("out", "later"))
        for name in ("items", "known", "first", "new", "weights"):
            np.testing.assert_array_equal(getattr(before, name), getattr(after, name))


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "nothing to refresh"),
        (["--items", "{items}", "--alone"], "--alone is about --interactions"),
        (["--interactions", "{missing}"], "missing.csv"),
        (["--interactions", "{empty}"], "refused"),
    ],
)
def test_what_cannot_be_refreshed_is_refused_and_nothing_is_written(run, tmp_path, more, says):
    (tmp_path / "empty.csv").write_text(HEADER)
    places = {"items": run.parent / "items.csv", "missing": tmp_path / "missing.csv", "empty": tmp_path / "empty.csv"}
    given = [str(part).format(**places) for part in more]
    code, _, errors = pocketrec("catalog", "refresh", run, "--out", tmp_path / "o", *given)
    assert code != 0
    assert says in " ".join(errors.split())
    assert not (tmp_path / "o").exists()


def test_a_log_for_a_bundle_without_a_crowd_and_a_run_without_users_are_refused(run, newer, tmp_path):
    from safetensors.numpy import load_file, save_file

    old = shutil.copytree(run, tmp_path / "old")
    arrays = load_file(old / "data/events.safetensors")
    del arrays["users"]
    save_file(arrays, old / "data/events.safetensors")
    code, _, errors = pocketrec("catalog", "refresh", old, "--interactions", newer, "--out", tmp_path / "o")
    assert code == 2
    assert "--alone" in errors
    refresh(old, tmp_path / "alone", "--interactions", newer, "--alone")
    plain = shutil.copytree(run / "export/bundle", tmp_path / "plain")
    manifest = json.loads((plain / "manifest.json").read_text())
    del manifest["fusion"], manifest["files"][GRAPH_FILE], manifest["files"][WORDS_FILE]
    (plain / "manifest.json").write_text(json.dumps(manifest))
    code, _, errors = pocketrec("catalog", "refresh", plain, "--interactions", newer, "--out", tmp_path / "o")
    assert code == 2
    assert "has no crowd" in errors


def test_a_folder_that_is_no_bundle_is_not_replaced(run, newer):
    code, _, errors = pocketrec("catalog", "refresh", run, "--interactions", newer, "--out", run)
    assert code == 2
    assert "is no bundle" in " ".join(errors.split())
    assert (run / "config.json").exists()
