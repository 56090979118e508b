"""A run's folder: what stages left is read once, read again when it changed, and missing things are named."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.config import config_to_dict, load_config
from pocketrec.distill.data import storage
from pocketrec.distill.training import student_training, trainer
from pocketrec.run.run import BEST_WEIGHTS, SHAPE, Run, write_json
from pocketrec.runtime.errors import ConfigError
from small_logs import ITEMS, LOG, load


@pytest.fixture
def run(tmp_path):
    """A run whose stages `data` and `text` are done."""
    (tmp_path / "run" / "data").mkdir(parents=True)
    (tmp_path / "run" / "text").mkdir()
    storage.save_dataset(load(tmp_path, LOG, ITEMS), tmp_path / "run" / "data")
    np.save(tmp_path / "run" / "text" / "vectors.npy", np.ones((4, 3), np.float32))
    return Run(tmp_path / "run", load_config())


@pytest.fixture
def reads(monkeypatch):
    """Names of the readers of `distill.data.storage`, one for each call."""
    made = []

    def count(name):
        read = getattr(storage, name)
        monkeypatch.setattr(storage, name, lambda *arguments: made.append(name) or read(*arguments))

    count("load_split")
    count("load_catalogue")
    return made


def test_events_and_catalogue_are_read_once(run, reads):
    for _ in range(3):
        assert len(run.split.train) == 2
        assert list(run.catalogue.titles) == ["Ten", "Twenty", "Thirty", "Forty"]
    assert reads == ["load_split", "load_catalogue"]


def test_a_stage_that_ran_again_is_read_again(run, reads, tmp_path):
    assert len(run.catalogue.item_ids) == run.n_items == 4
    storage.save_dataset(load(tmp_path, LOG, ITEMS + "50,Fifty\n"), run.folder / "data")
    assert len(run.catalogue.item_ids) == run.n_items == 5
    assert reads == ["load_catalogue"] * 2


def test_items_are_counted_without_reading_the_catalogue(run, reads):
    assert run.n_items == 4
    assert reads == []


@pytest.mark.parametrize("members", ['["llm","sasrec"]', '["sasrec","graph"]'])
def test_item_vectors_stay_in_memory_only_for_a_teacher_llm(run, members):
    settings = ["teacher.enabled=true", f"soft_labels.members={members}", "sid.collaborative_dim=2"]
    run = Run(run.folder, load_config(None, settings))
    assert run.sources.text.tolist() == np.ones((4, 3)).tolist()
    assert (run.sources is run.sources) == ("llm" in members)


@pytest.mark.parametrize(
    ("settings", "stages"),
    [
        ((), ("student", "student", "student", "student")),
        (("teacher.enabled=true",), ("distill", "distill", "distill", "distill")),
        (("prune.ratio=0.5",), ("student", "prune", "prune", "student")),
        (("preference.method=s-dpo",), ("student", "student", "preference", "preference")),
        (("prune.ratio=0.5", "preference.method=grpo"), ("student", "prune", "preference", "preference")),
    ],
)
def test_the_stages_that_leave_a_student(tmp_path, settings, stages):
    run = Run(tmp_path, load_config(None, settings))
    assert (run.student_stage, run.pruned_stage, run.weights_stage, run.start_stage) == stages


def test_a_run_opens_with_its_configuration_and_settings_over_it(tmp_path):
    write_json(tmp_path / "config.json", config_to_dict(load_config(None, ["train.epochs=3", "train.seed=4"])))
    config = Run.open(tmp_path, ["train.epochs=7"]).config
    assert (config.train.epochs, config.train.seed) == (7, 4)


def test_a_folder_without_a_run_is_refused_with_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match=r"no config\.json.*pocketrec train"):
        Run.open(tmp_path)


def test_files_of_training_have_the_names_that_training_gives_them():
    assert (BEST_WEIGHTS, SHAPE) == (trainer.BEST_WEIGHTS, student_training.SHAPE)
