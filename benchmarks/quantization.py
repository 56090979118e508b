r"""Ways to store or compute with fewer bits, compared by bytes, quality, latency and peak memory.

    pocketrec train --config benchmarks/beauty-teacher.toml --out runs/beauty-teacher \
        --interactions DATA/interactions.csv.gz --items DATA/items.csv.gz
    python benchmarks/quantization.py runs/beauty-teacher --out quantization.json

Exports the run's student by every scheme of `export.quantize`, and as ONNX Runtime's own tools quantise the float32
graph: dynamically (weights int8, activations rounded at every call) and statically (ranges of activations calibrated
on validation histories). Every row is measured through the runtime on the same cases; latency is measured in turns.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from rich.console import Console

from pocketrec.cli.console import RichProgress
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.protocol import CONVENTIONS, sample
from pocketrec.export.measure import evaluate_bundle
from pocketrec.export.quality_gates import measure_quality_gates
from pocketrec.export.quantize import SCHEMES, tensor_types
from pocketrec.run.run import Run, write_json
from pocketrec.runtime.bundle.bundle import WEIGHTS_FILE, Manifest, describe_file, open_bundle, write_manifest
from pocketrec.runtime.recommender import Recommender

CALIBRATION = 200  # validation histories


class Histories(CalibrationDataReader):  # type: ignore[misc]
    """Feeds of the recommender graph, for calibration."""

    def __init__(self, feeds: Iterator[dict[str, Any]]) -> None:
        self.feeds = feeds

    def get_next(self) -> dict[str, Any] | None:
        """The next feed; None at the end."""
        return next(self.feeds, None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path("quantization.json"))
    parser.add_argument("--questions", type=int, default=4000, help="validation cases of the table")
    parser.add_argument("--test", action="store_true", help="measure the schemes on all test users, too")
    arguments = parser.parse_args()
    run = Run.open(arguments.run)
    ids, catalogue, split = run.ids, run.catalogue, run.split
    student = run.student(run.weights_stage)
    progress = RichProgress(Console(stderr=True))
    with tempfile.TemporaryDirectory() as place:
        bundles = []
        for scheme in SCHEMES:
            folder = Path(place) / scheme
            run.write_bundle(student, folder, quantize=scheme)
            bundles.append((scheme, folder))
        plain = bundles[0][1]
        bundles += [
            (name, integer_kernels(plain, name, ids.rows, split.valid.histories))
            for name in ("ort dynamic", "ort static")
        ]
        gates = measure_quality_gates(bundles, catalogue.item_ids, sample(split.valid, arguments.questions), progress)
        turns = in_turns(dict(bundles))
        rows = [gate.to_dict() | turns[gate.artifact] for gate in gates]
        for row, (name, folder) in zip(rows, bundles, strict=True):
            if name in SCHEMES:
                row["weight_bytes"] = (folder / WEIGHTS_FILE).stat().st_size
                row["tensors"] = tensor_types(folder / WEIGHTS_FILE)
            if name in SCHEMES and arguments.test:
                with Recommender.load(folder) as recommender:
                    for convention, exclude in CONVENTIONS.items():
                        found = evaluate_bundle(
                            recommender, catalogue.item_ids, split.test, exclude_seen=exclude, progress=progress
                        )
                        row[f"test, {convention}"] = {m: found[m] for m in ("recall@10", "ndcg@10")}
    write_json(arguments.out, rows)
    for row in rows:
        print({name: value for name, value in row.items() if name != "tensors"})


def integer_kernels(plain: Path, how: str, sids: NDArray[Any], histories: Sequences) -> Path:
    """A copy of a bundle whose recommender graph multiplies integers, as ONNX Runtime's tools make it."""
    folder = plain.with_name(how.replace(" ", "-"))
    shutil.copytree(plain, folder)
    source, target = plain / "recommender.onnx", folder / "recommender.onnx"
    if how == "ort dynamic":
        quantize_dynamic(source, target, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
    else:
        with Recommender.load(plain) as recommender:
            quantize_static(
                source, target, Histories(feeds(recommender, sids, histories)), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8,
                extra_options={"MatMulConstBOnly": True},
            )  # fmt: skip
    manifest = open_bundle(plain).manifest
    files = {p.name: describe_file(p) for p in sorted(folder.iterdir()) if p.name != "manifest.json"}
    write_manifest(folder, Manifest(manifest.model, manifest.catalogue, files, manifest.graphs))
    return folder


def feeds(recommender: Recommender, sids: NDArray[Any], histories: Sequences) -> Iterator[dict[str, Any]]:
    """Inputs of the graph for some validation histories."""
    trie = recommender.trie
    for row in range(CALIBRATION):
        yield {
            "history": sids[histories[row][-20:]].astype(np.int32), "first_child": trie.first_child,
            "codes": trie.codes, "exclude": np.empty(0, np.int32), "beam": np.array([20], np.int64),
        }  # fmt: skip


def in_turns(bundles: dict[str, Path], calls: int = 400) -> dict[str, dict[str, float]]:
    """Median ms of a call with 20 items of history, all bundles in turns, and of opening each, once."""
    opened, opening = {}, {}
    for name, folder in bundles.items():
        begun = time.perf_counter()
        opened[name] = Recommender.load(folder)
        opening[name] = time.perf_counter() - begun
    table = next(iter(opened.values())).trie.table
    history = table.ids(np.linspace(0, len(table) - 1, 20).astype(np.int64))
    times: dict[str, list[float]] = {name: [] for name in opened}
    for _ in range(calls):
        for name, recommender in opened.items():
            begun = time.perf_counter()
            recommender.recommend(history)
            times[name].append(time.perf_counter() - begun)
    return {
        name: {"turns_p50_ms": round(float(np.median(t)) * 1e3, 3), "open_ms": round(opening[name] * 1e3, 1)}
        for name, t in times.items()
    }


if __name__ == "__main__":
    main()
