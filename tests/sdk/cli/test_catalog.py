"""`pocketrec catalog refresh`: items come and go, nobody else moves, and the model stays."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from command import pocketrec, write_ring

from pocketrec import Recommender
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.session import model_id

QUICK = [
    "train.epochs=1",
    "sasrec.enabled=false",
    "sid.codes=16",
    "sid.min_use=0",
    "sid.text_dim=8",
    "sid.collaborative_dim=8",
    "student.dim=32",
    "student.layers=1",
    "student.ffn=32",
    "student.decoder_dim=32",
    "export.branch_headroom=3",
    "export.titles=true",
]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that knows its items by text."""
    folder = tmp_path_factory.mktemp("catalog")
    write_ring(folder)
    sets = [part for one in QUICK for part in ("--set", one)]
    code, _, err = pocketrec(
        "train", "--interactions", folder / "log.csv", "--items", folder / "items.csv", "--out", folder / "run", *sets
    )
    assert code == 0, err
    return folder / "run"


def catalogue(path, items):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["item_id", "title", "kind"])
        writer.writerows([name, f"Thing, number {number}", f"kind {number // 10}"] for name, number in items)
    return path


def sids(bundle):
    trie = open_bundle(bundle).load_trie()
    return dict(zip(trie.table.ids(np.arange(len(trie))), map(tuple, trie.rows.tolist()), strict=True))


def refresh(run, items, out, *more):
    code, printed, err = pocketrec("catalog", "refresh", run, "--items", items, "--out", out, "--json", *more)
    assert code == 0, err
    return json.loads(printed)


def test_items_come_and_go_and_nobody_else_moves(run, tmp_path):
    items = [(f"i{i}", i) for i in range(5, 60)] + [(f"new{i}", i) for i in range(7)]
    done = refresh(run, catalogue(tmp_path / "items.csv", items), tmp_path / "out")
    assert (done["added"], done["removed"], done["kept"]) == (7, 5, 55)
    before, after = sids(run / "export" / "bundle"), sids(tmp_path / "out")
    assert set(after) == {name for name, _ in items}
    assert all(after[name] == before[name] for name in after if name in before)
    assert len(set(after.values()) | set(before.values())) == 67  # nobody took a place that was somebody's
    assert [one["room"] >= one["largest"] for one in done["crowding"]] == [True] * 3


def test_the_model_stays_and_recommends_the_new_items(run, tmp_path):
    items = [(f"i{i}", i) for i in range(60)] + [("new", 3)]
    refresh(run, catalogue(tmp_path / "items.csv", items), tmp_path / "out")
    old, new = open_bundle(run / "export" / "bundle").manifest, open_bundle(tmp_path / "out").manifest
    assert model_id(old) == model_id(new)
    assert new.metrics == {}
    assert new.provenance["measured_before"]["metrics"] == old.metrics
    with Recommender.load(tmp_path / "out") as rec:
        found = rec.recommend(["i1", "new"], k=100)
        assert found.unknown == ()
        assert {item.item_id for item in rec.recommend(["i1"], k=100)} == {name for name, _ in items} - {"i1"}
        assert next(item.title for item in rec.recommend([], k=100) if item.item_id == "new") == "Thing, number 3"


def test_new_items_are_recommended_to_those_who_like_what_they_resemble(run, tmp_path):
    items = [(f"i{i}", i) for i in range(60)] + [("new", 3)]
    done = refresh(run, catalogue(tmp_path / "items.csv", items), tmp_path / "out")
    assert done["cold"] == 1
    with Recommender.load(tmp_path / "out") as rec, Recommender.load(tmp_path / "out", cold_items=False) as plain:
        near, far = ([i.item_id for i in rec.recommend([name], k=60)].index("new") for name in ("i3", "i50"))
        assert near < far
        assert near < [i.item_id for i in plain.recommend(["i3"], k=60)].index("new")
    again = refresh(
        run, tmp_path / "items.csv", tmp_path / "again", "--bundle", tmp_path / "out"
    )  # yesterday's new item is still one that the model does not know
    assert (again["added"], again["cold"]) == (0, 1)


def test_an_item_that_comes_back_is_the_one_that_left(run, tmp_path):
    every, fewer = [(f"i{i}", i) for i in range(60)], [(f"i{i}", i) for i in range(30)]
    refresh(run, catalogue(tmp_path / "fewer.csv", [*fewer, ("x", 1)]), tmp_path / "monday")
    done = refresh(
        run,
        catalogue(tmp_path / "all.csv", [*every, ("x", 1), ("y", 2)]),
        tmp_path / "tuesday",
        "--bundle",
        tmp_path / "monday",
    )
    assert (done["added"], done["removed"], done["kept"]) == (31, 0, 31)
    tuesday = sids(tmp_path / "tuesday")
    assert tuesday["x"] == sids(tmp_path / "monday")["x"]
    assert {name: tuesday[name] for name, _ in every} == sids(run / "export" / "bundle")


def test_the_same_catalogue_gives_the_same_trie(run, tmp_path):
    items = [(f"i{i}", i) for i in range(60)]
    done = refresh(run, catalogue(tmp_path / "items.csv", items), tmp_path / "out")
    assert (done["added"], done["removed"], done["moved"]) == (0, 0, 0)
    name = "trie.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (run / "export" / "bundle" / name).read_bytes()


def test_a_crowd_that_the_graph_has_no_room_for_is_refused(run, tmp_path):
    items = [(f"i{i}", i) for i in range(60)] + [(f"copy{i}", 3) for i in range(400)]  # all of one text
    code, _, err = pocketrec(
        "catalog", "refresh", run, "--items", catalogue(tmp_path / "items.csv", items), "--out", tmp_path / "out"
    )
    assert code == 1
    assert "room for" in err or "no free semantic ID" in err
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_refused(run, tmp_path):
    items = catalogue(tmp_path / "items.csv", [("i1", 1)])
    assert pocketrec("catalog", "refresh", tmp_path / "no-run", "--items", items, "--out", tmp_path / "o")[0] != 0
    (tmp_path / "empty.csv").write_text("item_id,title\n")
    code, _, err = pocketrec("catalog", "refresh", run, "--items", tmp_path / "empty.csv", "--out", tmp_path / "o")
    assert code == 1
    assert "refused" in err
    other = shutil.copytree(run, tmp_path / "other")
    from safetensors.numpy import load_file, save_file

    books = load_file(other / "sids" / "codebooks.safetensors")
    save_file({name: array + 1 for name, array in books.items()}, other / "sids" / "codebooks.safetensors")
    code, _, err = pocketrec("catalog", "refresh", other, "--items", items, "--out", tmp_path / "o")
    assert code == 1
    assert "other codebooks" in " ".join(err.split())
