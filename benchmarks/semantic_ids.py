r"""Residual k-means and RQ-VAE compared: time, quality of the semantic IDs, and quality of a student trained on them.

    python benchmarks/semantic_ids.py --data DATA --text-vectors vectors.npy --epochs 5 > semantic_ids.json

DATA holds interactions.csv.gz and items.csv.gz; the vectors are float [n_items, d] in the catalogue's row order (a
run leaves them in `text/vectors.npy`); without them MiniLM encodes the item texts first. Both methods get the same
fused item vectors and seed, and the same student, settings and cases; only the IDs differ. JSON goes to stdout.

Figures: wall and CPU seconds of building the IDs; use and entropy of each level's codes; share of items moved for
uniqueness; neighbour agreement, within the space that is quantised and with the fused vectors; validation scores.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import DataConfig, SidConfig, StudentConfig, TextConfig, TrainConfig
from pocketrec.distill.data.load import load_dataset
from pocketrec.distill.data.splits import Split, split_users
from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
from pocketrec.distill.semantic_ids.fusion import Sources
from pocketrec.distill.semantic_ids.quality import NEIGHBOURS, SAMPLE
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds, build_semantic_ids
from pocketrec.distill.semantic_ids.text_vectors import encode_texts, normalise
from pocketrec.distill.training.student_training import train_student

METHODS = ("rkmeans", "rqvae")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with interactions.csv.gz and items.csv.gz")
    parser.add_argument("--text-vectors", type=Path, help=".npy, float [n_items, d], in the catalogue's row order")
    parser.add_argument("--epochs", type=int, default=5, help="the student's epochs; 0 leaves it out (default: 5)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    result = compare(arguments.data, arguments.text_vectors, arguments.epochs, arguments.seed)
    print(json.dumps(result, indent=1))


def compare(data: Path, text_vectors: Path | None, epochs: int, seed: int) -> dict[str, Any]:
    """Measure both methods; what is returned is what is printed."""
    config = DataConfig()
    dataset = load_dataset(data / "interactions.csv.gz", data / "items.csv.gz", config)
    split = split_users(dataset.users, dataset.times, config)
    sid = SidConfig(seed=seed)
    n_items = len(dataset.catalogue)
    encoder = "minilm" if text_vectors is None else str(text_vectors)
    text = encode_texts(dataset.catalogue.texts, TextConfig(encoder=encoder))
    collaborative = collaborative_vectors(
        split.train, n_items, dim=sid.collaborative_dim, window=sid.window, seed=sid.seed
    )
    sources = Sources(text=text, collaborative=collaborative)
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "items": n_items,
        "seed": seed,
        "epochs": epochs,
        "methods": {method: measure(method, sources, split, epochs, seed) for method in METHODS},
    }


def measure(method: str, sources: Sources, split: Split, epochs: int, seed: int) -> dict[str, Any]:
    """Build the IDs by one method and train a student on them."""
    wall, cpu = time.perf_counter(), time.process_time()
    ids = build_semantic_ids(sources, SidConfig(method=method, seed=seed))
    quality = ids.quality
    row = {
        "seconds": round(time.perf_counter() - wall, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "use": [round(use, 4) for use in quality.use],
        "entropy_bits": [round(bits, 3) for bits in quality.entropy_bits],
        "moved_share": round(quality.moved_share, 4),
        "neighbour_agreement": round(quality.neighbour_agreement, 4),
        "neighbour_agreement_with_sources": round(agreement_with_sources(ids, sources, seed), 4),
        "codebook_floats": int(ids.codebooks.centroids.size + sum(w.size + b.size for w, b in ids.codebooks.encoder)),
    }
    logging.info("%s: %s", method, row)
    if epochs:
        row["student_validation"] = score_student(ids, split, epochs, seed)
        logging.info("%s: %s", method, row["student_validation"])
    return row


def score_student(ids: SemanticIds, split: Split, epochs: int, seed: int) -> dict[str, float]:
    """Recall@10 and ndcg@10 of a sample of validation users, after the last epoch."""
    settings = TrainConfig(epochs=epochs, validate_every=epochs, checkpoint_steps=0, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        state = train_student(split, ids, StudentConfig(), settings, Path(folder))
    return {name: round(state.validations[-1][name], 5) for name in ("recall@10", "ndcg@10")}


def agreement_with_sources(ids: SemanticIds, sources: Sources, seed: int) -> float:
    """Share of an item's nearest neighbours among the fused vectors that are its nearest by their centroids' sums.

    Unlike the quality report's figure it also counts what an encoder loses, so methods can be compared by it.
    """
    fused = normalise(ids.space.fuse(sources))
    centroids = ids.codebooks.centroids
    rebuilt = normalise(sum(centroids[level][codes] for level, codes in enumerate(ids.rows.T)))
    chosen = np.random.default_rng(seed).permutation(len(fused))[:SAMPLE]
    pairs = zip(neighbours(fused, chosen), neighbours(rebuilt, chosen), strict=True)
    return float(np.mean([len(np.intersect1d(a, b)) / NEIGHBOURS for a, b in pairs]))


def neighbours(vectors: NDArray[np.float32], chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    similar = vectors[chosen] @ vectors.T
    similar[np.arange(len(chosen)), chosen] = -np.inf
    return np.argpartition(-similar, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]


if __name__ == "__main__":
    main()
