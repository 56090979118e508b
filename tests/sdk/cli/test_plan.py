"""`pocketrec train` without a configuration: settings follow from the data and are told; the user's own win."""

from __future__ import annotations

import json
import shutil

import pytest
from command import RING_SETTINGS, pocketrec

SMALL = [part for setting in RING_SETTINGS[1:] for part in ("--set", setting)]  # without recipe.size=none


def train(log, run, *more):
    return pocketrec("train", "--interactions", log / "log.csv", "--items", log / "items.csv", "--out", run, *more)


def plan(log, run, *more):
    code, out, err = train(log, run, "--plan", "--json", *more)
    assert code == 0, err
    return json.loads(out)


@pytest.fixture(scope="module")
def taught(log, tmp_path_factory):
    run = tmp_path_factory.mktemp("planned") / "run"
    code, out, err = train(log, run, *SMALL, "--json")
    assert code == 0, err
    return run, json.loads(out), err


def test_a_committee_teaches_and_the_exported_bundle_has_experts_and_int8(taught):
    run, result, _ = taught
    assert "committee" in result["teachers"]
    manifest = json.loads((run / "export/bundle/manifest.json").read_text())
    assert manifest["model"]["quantization"] == "int8"
    assert manifest["fusion"].keys() >= {"crowd", "words"}
    config = json.loads((run / "config.json").read_text())
    assert (config["export"]["quantize"], config["experts"]["enabled"]) == ("int8", True)
    assert config["train"]["epochs"] == 12  # from --set, over the recipe


def test_the_plan_and_the_times_are_told(taught):
    _, _, err = taught
    assert "200 users, 60 items, 1,600 events, with texts" in err
    assert "a committee of SASRec and the transition graph teaches the student" in err
    assert "million parameters; bundle about" in err
    assert err.count("to go in all") == 9  # every stage but the first, whose data gave the plan


def test_a_second_run_does_nothing_also_on_another_machine(taught, log, monkeypatch):
    monkeypatch.setattr("pocketrec.forecast.available_cores", lambda: 64)
    assert {stage["state"] for stage in plan(log, taught[0], *SMALL)["stages"]} == {"done"}


def test_a_changed_setting_runs_only_what_it_touches(taught, log):
    states = {s["name"]: s["state"] for s in plan(log, taught[0], *SMALL, "--set", "train.epochs=3")["stages"]}
    assert [states[name] for name in ("sasrec", "soft-labels", "distill", "export")] == [
        "done", "done", "changed", "changed",
    ]  # fmt: skip


def test_a_plan_reads_the_data_and_trains_nothing(log, tmp_path):
    found = plan(log, tmp_path / "run")
    assert {s["name"] for s in found["stages"] if s["state"] == "done"} == {"data"}
    assert found["plan"]["data"]["users"] == 200
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"data", "plan.json"}
    assert all(s["expected_seconds"] > 0 for s in found["stages"])


def test_a_configuration_file_wins_over_the_recipe_setting_by_setting(log, tmp_path):
    (tmp_path / "run.toml").write_text("[train]\nepochs = 3\n")
    code, _, _ = train(log, tmp_path / "run", "--plan", "--config", tmp_path / "run.toml")
    assert code == 0
    code, out, _ = train(log, tmp_path / "run", "--plan", "--config", tmp_path / "run.toml", "--set", "student.dim=96")
    assert code == 0
    settings = next(line for line in out.splitlines() if line.strip().startswith("settings")).split()
    assert {"train.epochs=3", "student.dim=96", "train.unlikelihood=2.0", "teacher.enabled=True"} <= set(settings)


def test_sizes_and_no_teacher(log, tmp_path):
    parameters = [plan(log, tmp_path / "run", "--size", size)["plan"]["parameters"] for size in ("small", "large")]
    assert parameters[0] < 400_000 < 3_000_000 < parameters[1]
    stages = [s["name"] for s in plan(log, tmp_path / "run", "--no-teacher")["stages"]]
    assert "student" in stages
    assert "soft-labels" not in stages
    assert plan(log, tmp_path / "run", "--set", "teacher.enabled=false")["stages"]


def test_a_bundle_keeps_to_the_bytes_allowed(taught, log, tmp_path):
    shutil.copytree(taught[0], tmp_path / "run")
    code, _, err = train(log, tmp_path / "run", *SMALL, "--max-bytes", "200kB", "--json")
    assert code == 0, err
    bundle = tmp_path / "run/export/bundle"
    assert sum(file.stat().st_size for file in bundle.iterdir()) <= 200_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--max-bytes", "50kB"), r"does not fit into 0.05 MB: student"),
        (("--max-bytes", "2 apples"), "is not a number of bytes"),
        (("--max-bytes", "0"), "is not a number of bytes"),
        (("--size", "huge"), "huge"),
        (("--set", "recipe.size=huge"), "recipe.size"),
    ],
)
def test_wrong_sizes_are_usage_errors(arguments, message, log, tmp_path):
    code, out, err = train(log, tmp_path / "run", *arguments)
    assert code == 2
    assert message in " ".join(err.split())
    assert out == ""
