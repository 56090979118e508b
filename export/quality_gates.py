"""Quality gates: how much an exported bundle lost against the float32 model, and whether that is too much.

Every row is measured on the files themselves, through the runtime that ships, on the same validation questions, and
compared with the first row. Peak memory is measured in a fresh process that opens the bundle and makes a few calls.

A row is judged by a paired bootstrap over the questions (`judge`), so that chance neither fails nor passes an export.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.evaluation.metrics import Difference, metrics_from_ranks, paired_loss, ranks_of
from pocketrec.distill.evaluation.ranking import ranked_lists
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.export.measure import WARM_UP, BundleRanker, bundle_bytes, open_files
from pocketrec.runtime.bundle.bundle import open_bundle
from pocketrec.runtime.engines.registry import engine_for
from pocketrec.runtime.errors import ExportError
from pocketrec.runtime.recommender import Recommender

LIST_LENGTH = 10
METRIC = "ndcg@10"
MAX_DROP = 0.02  # share of ndcg@10 that an export may lose
Verdict = Literal["passed", "undecided", "failed"]
# Peak resident memory of a process that only runs the bundle. VmHWM starts again with each program; ru_maxrss, the
# fallback where there is no /proc, may include the parent's.
_PROBE = """
import sys, resource
from pocketrec.runtime.recommender import Recommender
rec = Recommender.load(*sys.argv[1:])
ids = rec.trie.table.ids(range(min(20, len(rec.trie.table))))
for _ in range(5):
    rec.recommend(ids)
try:
    kib = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
except (OSError, StopIteration):
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1)
print(kib / 1024)
"""


@dataclass(frozen=True)
class QualityGate:
    """One exported bundle: `bytes` of all its files, quality, agreement with the first row, cost of a call.

    agreement: mean share of the first row's ten items that are among this row's ten. peak_mb: of a whole process, in
    MiB. questions: number of validation users. loss, loss_low, loss_high: share of the first row's ndcg@10 that is
    lost, and its one-sided 95 % bounds. verdict: of `judge`.
    """

    artifact: str
    bytes: int
    recall: float
    ndcg: float
    agreement: float
    p50_ms: float
    peak_mb: float
    questions: int = 0
    loss: float = 0.0
    loss_low: float = 0.0
    loss_high: float = 0.0
    verdict: Verdict = "passed"

    def to_dict(self) -> dict[str, Any]:
        """Return the row under its published names."""
        names = {"recall": "recall@10", "ndcg": "ndcg@10", "agreement": "agreement@10"}
        return {names.get(name, name): value for name, value in asdict(self).items()}


def measure_quality_gates(
    bundles: Sequence[tuple[str, Path]],
    item_ids: Sequence[str],
    questions: EvalSet,
    progress: Progress = SILENT,
    max_drop: float = MAX_DROP,
) -> list[QualityGate]:
    """Measure bundles of one catalogue; all are compared with the first.

    :param bundles: (name of the row, folder).
    :param item_ids: ids of the catalogue whose rows the questions hold.
    :param max_drop: share of the first row's ndcg@10 that a row may lose.
    """
    gates: list[QualityGate] = []
    first: NDArray[np.int32] | None = None
    first_ranks = np.empty(0, np.int32)
    for name, folder in bundles:
        with open_files(folder) as recommender:
            lists, p50 = _measure(recommender, item_ids, questions, progress, name)
        ranks = ranks_of(lists, questions.targets)
        if first is None:
            first, first_ranks = lists, ranks
        metrics, loss = metrics_from_ranks(ranks).to_dict(), paired_loss(first_ranks, ranks, METRIC)
        gates.append(
            QualityGate(
                artifact=name,
                bytes=sum(bundle_bytes(folder).values()),
                recall=float(metrics["recall@10"]),
                ndcg=float(metrics["ndcg@10"]),
                agreement=round(agreement(first, lists), 4),
                p50_ms=round(p50, 3),
                peak_mb=round(peak_memory(folder), 1),
                questions=len(questions),
                loss=round(loss.mean, 5),
                loss_low=round(loss.low, 5),
                loss_high=round(loss.high, 5),
                verdict=judge(loss, max_drop),
            )
        )
    return gates


def agreement(first: NDArray[np.int32], lists: NDArray[np.int32]) -> float:
    """Mean share of the items of `first` that are also in `lists`, in any order: int32 [n, k] each, -1: empty."""
    shared = ((first[:, :, None] == lists[:, None]) & (first >= 0)[:, :, None]).any(2).sum(1)
    sizes = (first >= 0).sum(1)
    return float(np.mean(np.where(sizes > 0, shared / np.maximum(sizes, 1), 1.0)))


def judge(loss: Difference, max_drop: float) -> Verdict:
    """Judge a loss of quality by its estimate and its one-sided 95 % bounds (`paired_loss`).

    failed: even the lower bound is above `max_drop`. An export whose true loss is within the limit fails in at most
    about 5 % of all cases, however few the questions are.
    passed: the upper bound is within `max_drop`; or the estimate is, and there are so many questions that the bound is
    at most `max_drop` above the estimate.
    undecided: anything else; there are not enough questions to tell.

    :param max_drop: share of the metric that may be lost, in [0, 1].
    """
    if loss.low > max_drop:
        return "failed"
    precise = loss.high - loss.mean <= max_drop
    return "passed" if loss.high <= max_drop or (loss.mean <= max_drop and precise) else "undecided"


def refuse_losses(gates: Sequence[QualityGate], max_drop: float, strict: bool = False) -> None:
    """Refuse an artifact that failed against the first row.

    :param max_drop: the limit that the rows were judged by.
    :param strict: refuse undecided artifacts as well.
    :raises ExportError: naming the first row that is refused.
    """
    first = gates[0]
    for gate in gates[1:]:
        found = f"{gate.artifact} has ndcg@10 {gate.ndcg:.4f}, {first.artifact} {first.ndcg:.4f}"
        if gate.verdict == "failed":
            raise ExportError(
                f"{found}: a loss of {described(gate)}, more than the allowed {max_drop:.1%}; choose a format with "
                "more bits, or raise --max-drop"
            )
        if strict and gate.verdict == "undecided":
            raise ExportError(
                f"{found}: a loss of {described(gate)}; {gate.questions:,} questions are not enough to tell whether it "
                f"is within the allowed {max_drop:.1%}; give more --questions, or export without --strict"
            )


def described(gate: QualityGate) -> str:
    """Return a row's loss with its bounds, in percent."""
    return f"{gate.loss:.1%} ({gate.loss_low:.1%} to {gate.loss_high:.1%} in 90 % of resamples)"


def peak_memory(folder: Path) -> float:
    """Return the peak resident memory, MiB, of a fresh process that opens a bundle and recommends.

    :raises ExportError: if that process fails.
    """
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, str(folder), engine_for(open_bundle(folder))], capture_output=True, text=True
    )
    if done.returncode:
        raise ExportError(f"a process that opens {folder} failed: {done.stderr.strip()[-400:]}")
    return float(done.stdout)


def _measure(
    recommender: Recommender, item_ids: Sequence[str], questions: EvalSet, progress: Progress, name: str
) -> tuple[NDArray[np.int32], float]:
    """Lists of ten items, int32 [n, 10], seen items kept, and the median time of a call in ms."""
    ranker = BundleRanker(recommender, item_ids)
    ranker.rank(questions.histories.take(slice(0, WARM_UP)), LIST_LENGTH, exclude_seen=False)
    ranker.milliseconds.clear()
    with progress.track(f"measuring {name}", len(questions)) as advance:
        ranker.on_call = advance
        lists = ranked_lists(
            ranker, questions, n_items=len(item_ids), exclude_seen=False, list_length=LIST_LENGTH, progress=SILENT,
        )  # fmt: skip
    return lists, float(np.median(ranker.milliseconds))
