"""The command line in this process, and a small log and run to try it on."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from pathlib import Path

from pocketrec.__main__ import main

RING_SETTINGS = (
    "recipe.size=none", "sid.codes=16", "student.dim=32", "student.ffn=32", "student.decoder_dim=32", "train.epochs=12",
    "train.batch_size=32", "train.learning_rate=0.01", "sasrec.dim=16",
    "sasrec.train.epochs=2", "sasrec.train.batch_size=32",
)  # fmt: skip
MEASURES = {"recall@5", "recall@10", "ndcg@5", "ndcg@10", "mrr", "invalid", "users"}


def pocketrec(*arguments: object) -> tuple[int, str, str]:
    """Run the command; return exit code, stdout and stderr."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["pocketrec", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = argv
    return code or 0, out.getvalue(), err.getvalue()


def write_ring(folder: Path) -> Path:
    """Write log.csv and items.csv: each user walks round a ring of 60 items."""
    generator = random.Random(0)
    with (folder / "log.csv").open("w") as file:
        file.write("user_id,item_id,timestamp\n")
        for user in range(200):
            start = generator.randrange(60)
            for step in range(8):
                file.write(f"u{user},i{(start + step) % 60},{1_600_000_000 + step}\n")
    with (folder / "items.csv").open("w") as file:
        file.write("item_id,title,kind\n")
        for item in range(60):
            file.write(f'i{item},"Thing, number {item}",kind {item // 10}\n')
    return folder


def train_ring(log: Path, run: Path, *more: object) -> tuple[int, str, str]:
    """Run `pocketrec train` on what `write_ring` wrote."""
    settings = [part for setting in RING_SETTINGS for part in ("--set", setting)]
    files = ("--interactions", log / "log.csv", "--items", log / "items.csv")
    return pocketrec("train", *files, "--out", run, *settings, *more)
