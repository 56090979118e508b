"""Writes what tests/device checks: small bundles, and the answers that the model itself gives, by brute force.

    python tests/device/make_vectors.py FOLDER

Needs torch and the exporters. The tests that read the folder need neither, so they run where only the device install
is: another architecture, a small machine.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.recommender import Recommender

sys.path.insert(0, str(Path(__file__).parents[1]))

from tiny import brute_force, random_rows, tiny_bundle, tiny_student

SHAPES = {
    "plain": {},
    "grouped": {"heads": 4, "kv_heads": 2, "layers": 3},
    "no pairs": {"pair_dim": 0},
    "pruned": {"dim": 12, "heads": 1, "kv_heads": 1, "head_dim": 8, "ffn": 5, "decoder_dim": 3, "pair_dim": 1},
}
QUANTIZED = {"dim": 32, "ffn": 64, "head_dim": 16, "decoder_dim": 32}
ITEMS = 60


def write_case(folder: Path, name: str, shape: dict[str, int], quantize: str = "none") -> None:
    """Write a bundle and, for a few histories, the score of every item."""
    student, rows = tiny_student(**shape), random_rows(ITEMS)
    tiny_bundle(folder / name, student, rows, quantize=quantize)
    cases = []
    for length in (0, 1, 3, 6):
        history = [f"item-{i}" for i in range(length)]
        if quantize == "none":
            scores = brute_force(student, rows[:length].astype(np.int32), rows)
        else:  # what its weights give once they are decoded, on this machine
            scores = decoded_scores(folder / name, history)
        cases.append({"history": history, "scores": scores.tolist()})
    (folder / f"{name}.json").write_text(json.dumps(cases), encoding="utf-8")


def decoded_scores(folder: Path, history: list[str]) -> NDArray[np.float64]:
    out = np.zeros(ITEMS)
    with Recommender.load(folder, "reference") as recommender:
        for item in recommender.recommend(history, k=ITEMS, exclude_seen=False):
            out[int(item.item_id.removeprefix("item-"))] = item.score
    return out


def main() -> None:
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, shape in SHAPES.items():
        write_case(folder, name.replace(" ", "-"), shape)
    for scheme in ("int8", "int4"):
        write_case(folder, scheme, QUANTIZED, scheme)


if __name__ == "__main__":
    main()
