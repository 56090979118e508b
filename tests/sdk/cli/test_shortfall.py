"""A run whose bundle is worse than a simple baseline says so where people look: last line, report, JSON."""

from __future__ import annotations

import json
import shutil

from command import train_ring


def test_a_run_that_loses_says_so_in_its_last_line_its_report_and_its_json(trained, log, tmp_path):
    run = tmp_path / "loses"
    shutil.copytree(trained[0], run)
    untrained = ("--set", "train.epochs=1", "--set", "train.learning_rate=1e-9")
    code, out, err = train_ring(log, run, *untrained)
    assert code == 0, err
    last = out.strip().splitlines()[-1]
    assert last.startswith("The bundle is worse than simple baselines (seen ")
    assert "below transition graph in" in last
    assert "To try: --set experts.enabled=true" in last
    summary = json.loads((run / "report" / "summary.json").read_text())
    assert summary["shortfall"] == last
    assert "The bundle is worse than simple baselines" in (run / "report" / "report.html").read_text()
    code, out, err = train_ring(log, run, *untrained, "--json")
    assert code == 0, err
    shortfall = json.loads(out)["shortfall"]
    assert shortfall["text"] == last
    graph = next(b for b in shortfall["below"] if b["baseline"] == "transition graph")
    assert graph["value"] > graph["bundle"]
    assert graph["p"] < 0.05


def test_a_run_that_is_nowhere_worse_says_nothing_of_the_kind(trained, log, monkeypatch):
    monkeypatch.setattr("pocketrec.run.pipeline.run_shortfall", lambda run, systems: None)
    code, out, err = train_ring(log, trained[0])
    assert code == 0, err
    assert "worse than simple baselines" not in out
    assert json.loads(train_ring(log, trained[0], "--json")[1])["shortfall"] is None
