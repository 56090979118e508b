"""`pocketrec evaluate` measures what training measured."""

from __future__ import annotations

import json

from command import MEASURES, pocketrec


def test_evaluate_gives_what_training_measured(trained, log):
    _, result = trained
    code, out, err = pocketrec("evaluate", result["bundle"], "--interactions", log / "log.csv", "--json")
    assert code == 0, err
    measured = json.loads(out)
    assert {"p50_ms", "p95_ms", "bytes", "parameters", *MEASURES} <= measured.keys()
    for name in ("recall@5", "recall@10", "ndcg@10", "mrr", "users"):
        assert measured[name] == result["metrics"][name]
    assert measured["bytes"]["model.safetensors"] > 0
    for option in (("--exclude-seen",), ("--split", "valid"), ("--engine", "reference"), ("--beam", "5")):
        code, out, err = pocketrec("evaluate", result["bundle"], "--interactions", log / "log.csv", "--json", *option)
        assert code == 0, err
        if option == ("--exclude-seen",):
            assert json.loads(out)["recall@10"] == result["metrics"]["seen excluded"]["recall@10"]
