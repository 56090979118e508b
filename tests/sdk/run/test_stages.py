"""Stages: what is finished and unchanged is skipped, what is not is done, and nothing half-done counts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from pocketrec.run.stages import FileHashes, Stage, StageRunner, hash_path
from pocketrec.runtime.errors import ConfigError


class Kitchen:
    """Two stages that count how often they run."""

    def __init__(self, folder, config=None, source="flour"):
        self.folder, self.done = folder, []
        self.config = config or {"dough": {"salt": 1}, "oven": {"heat": 200}}
        stages = [
            Stage("dough", "knead", ("dough",), ("source",), ("dough.txt",), self._dough),
            Stage("bread", "bake", ("oven",), ("dough/dough.txt",), ("bread",), self._bread),
        ]
        self.runner = StageRunner(folder, stages, self.config, {"source": source})

    def _dough(self, folder):
        self.done.append("dough")
        (folder / "dough.txt").write_text(json.dumps(self.config["dough"]))

    def _bread(self, folder):
        self.done.append("bread")
        (folder / "bread").mkdir(exist_ok=True)
        (folder / "bread" / "loaf.txt").write_text(json.dumps(self.config))

    def run(self, start=None):
        self.done.clear()
        self.runner.run(start)
        return list(self.done)

    def states(self):
        return [s.state for s in self.runner.status()]


def test_a_second_run_does_nothing(tmp_path):
    assert Kitchen(tmp_path).states() == ["to do", "to do"]
    assert Kitchen(tmp_path).run() == ["dough", "bread"]
    assert Kitchen(tmp_path).run() == []
    assert Kitchen(tmp_path).states() == ["done", "done"]


def test_a_changed_input_or_setting_runs_the_stages_that_depend_on_it(tmp_path):
    Kitchen(tmp_path).run()
    oven = {"dough": {"salt": 1}, "oven": {"heat": 250}}
    assert Kitchen(tmp_path, oven).states() == ["done", "changed"]
    assert Kitchen(tmp_path, oven).run() == ["bread"]
    assert Kitchen(tmp_path, {**oven, "dough": {"salt": 2}}).run() == ["dough", "bread"]
    assert Kitchen(tmp_path, {**oven, "dough": {"salt": 2}}, source="rye").states() == ["changed", "changed"]


def test_a_stage_may_depend_on_a_single_setting(tmp_path):
    def runner(salt, heat):
        stage = Stage("dough", "knead", ("dough.salt",), (), (), lambda folder: None)
        return StageRunner(tmp_path, [stage], {"dough": {"salt": salt, "heat": heat}}, {})

    runner(salt=1, heat=200).run()
    assert runner(salt=1, heat=250).status()[0].state == "done"
    assert runner(salt=2, heat=200).status()[0].state == "changed"


def test_a_changed_source_that_gives_the_same_dough_bakes_nothing_again(tmp_path):
    Kitchen(tmp_path).run()
    assert Kitchen(tmp_path, source="rye").run() == ["dough"]


@pytest.mark.parametrize(
    ("damage", "content"),
    [("bread/bread/loaf.txt", "burnt"), ("bread/stage.json", "burnt"), ("bread/stage.json", "{}")],
)
def test_a_lost_or_damaged_output_is_made_again(tmp_path, damage, content):
    Kitchen(tmp_path).run()
    (tmp_path / damage).write_text(content)
    assert Kitchen(tmp_path).run() == ["bread"]
    (tmp_path / damage).unlink()
    assert Kitchen(tmp_path).run() == ["bread"]


def test_a_stage_can_be_asked_for_and_runs_with_all_after_it(tmp_path):
    Kitchen(tmp_path).run()
    assert Kitchen(tmp_path).run("bread") == ["bread"]
    assert Kitchen(tmp_path).run("dough") == ["dough", "bread"]
    with pytest.raises(ConfigError, match="dough, bread"):
        Kitchen(tmp_path).run("wine")


def test_an_interrupted_stage_keeps_its_work_if_its_inputs_are_the_same_and_drops_it_if_not(tmp_path):
    def interrupt(folder):
        (folder / "half").write_text("done")
        raise KeyboardInterrupt

    def bake(folder):
        seen.append((folder / "half").exists())
        (folder / "out").write_text("x")

    def runner(work, source):
        return StageRunner(tmp_path, [Stage("a", "", (), ("source",), ("out",), work)], {}, {"source": source})

    seen = []
    for source, resumed in (("same", True), ("other", False)):
        with pytest.raises(KeyboardInterrupt):
            runner(interrupt, "same").run("a")
        assert [s.state for s in runner(bake, source).status()] == ["to do"]
        runner(bake, source).run()
        assert seen.pop() is resumed


def test_a_folders_hash_tells_names_and_contents_apart(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    first = hash_path(tmp_path / "a")
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert hash_path(tmp_path / "a") != first


def test_every_file_is_read_once_however_many_stages_need_it(tmp_path, monkeypatch):
    def write(folder):
        (folder / "out").write_text(folder.name)
        (folder / "labels").mkdir(exist_ok=True)
        (folder / "labels" / "0").write_text("label")

    def runner():
        outputs = ("out", "labels")
        stages = [Stage("a", "", (), (), outputs, write)]
        stages += [Stage(name, "", (), ("a/out", "a/labels"), outputs, write) for name in ("b", "c", "d")]
        return StageRunner(tmp_path, stages, {}, {})

    reads = Counter()
    opened = Path.open

    def counted(path, mode="r", *more, **options):
        reads[path.relative_to(tmp_path).as_posix()] += "r" in mode
        return opened(path, mode, *more, **options)

    monkeypatch.setattr("pocketrec.run.stages.Path.open", counted)
    data = [f"{stage}/{name}" for stage in "abcd" for name in ("out", "labels/0")]
    runner().run()
    assert {name: reads[name] for name in data} == dict.fromkeys(data, 1)
    again = runner()
    again.run()
    again.status()
    assert {name: reads[name] for name in data} == dict.fromkeys(data, 2)


def test_a_file_that_changed_is_hashed_again(tmp_path):
    hashes, file = FileHashes(), tmp_path / "file"
    file.write_text("one")
    assert hashes.of(file) == hash_path(file)
    file.write_text("another")
    assert hashes.of(file) == hash_path(file)
    first = hashes.of(tmp_path)
    file.rename(tmp_path / "renamed")
    assert hashes.of(tmp_path) == hash_path(tmp_path) != first
