"""A run summary that fills every section of the report."""

from __future__ import annotations

from pocketrec.report.summary import RunSummary

HOSTILE = """"'><script>alert(1)</script><img src=x onerror=alert(1)>{{ 7*7 }}</style>&amp;"""


def summary(text: str = "plain") -> RunSummary:
    """Return a summary that fills every section, with `text` wherever a user's words can get to."""

    def measures(recall: float) -> dict[str, float | None]:
        return {"recall@10": recall, "ndcg@10": recall / 2, "coverage@10": 0.5, "invalid": 0.0, text: 3.0}

    return RunSummary(
        title=text,
        dataset={
            "users": 1234,
            "density": 0.0007,
            text: text,
            "findings": [{"code": text, "severity": text, "count": 3, "what": text, "rule": text}],
        },
        losses=[
            {"model": model, "step": i, "epoch": i / 4, "loss": 3.0 / (i + 1), "learning_rate": 0.1 / (i + 1)}
            for model in ("student", text)
            for i in range(8)
        ],
        validation=[{"model": text, "epoch": float(i), "recall@10": i / 100, "ndcg@10": i / 200} for i in range(1, 4)],
        metrics={
            "student": {"seen kept": measures(0.08), "seen excluded": measures(0.1)},
            text: {"seen kept": measures(0.09), "seen excluded": measures(0.08), text: measures(0.1)},
        },
        p_values={text: {"seen kept": 0.0004, "seen excluded": 0.25}},
        left_out=[f"The committee leaves out {text}: it is not better with it."],
        verdict=f"student: recall@10 .1000, 25 % above {text}",
        shortfall=f"The bundle is worse than {text}.",
        artifact={
            "files": {"recommender.onnx": 2_000_000, text: 500},
            "parameters": 843_264,
            "p50_ms": 1.75,
            "p95_ms": 2.5,
        },
        gates=[
            {
                "artifact": name,
                "bytes": size,
                "recall@10": 0.1,
                "ndcg@10": ndcg,
                "agreement@10": 0.9,
                "p50_ms": 1.0,
                "peak_mb": 60.0,
            }
            for name, size, ndcg in (("float32", 4_000_000, 0.05), (text, 1_000_000, 0.049))
        ],
        semantic_ids={
            "levels": 2,
            "codes": 4,
            "use": [0.75, 1.0],
            "entropy_bits": [1.5, 2.0],
            "counts": [[5, 2, 1, 0], [2, 2, 2, 2]],
            "moved": 1,
            "moved_share": 0.125,
            "neighbour_agreement": 0.6,
            "collapsed": False,
        },
        popularity_bias={
            "bins": [text, "rest"],
            "catalogue": [0.5, 0.5],
            "interactions": [0.9, 0.1],
            "recommended": {"student": [0.95, 0.05], text: [1.0, 0.0]},
        },
        examples=[
            {
                "history": [text] * 12,
                "target": text,
                "recommended": [
                    {"title": "other", "score": -1.5, "hit": False},
                    {"title": text, "score": -2.0, "hit": True},
                ],
            },
            {"history": [], "target": None, "recommended": [{"title": text, "score": -1.0, "hit": False}]},
        ],
        configuration={"student": {"dim": 128, "inner": {text: text}}, "seed": 0, text: {text: [1, 2]}},
        versions={"pocketrec": "0.1.0", text: text},
        seeds={"run": 0, text: 1},
        seconds={"train": 75.0, text: 1.0},
        next_command=text,
    )
