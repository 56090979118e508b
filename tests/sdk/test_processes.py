"""`accelerate launch` with two processes makes the run that one process makes: the same labels, the same losses."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaModel

from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.storage import load_split

SETTINGS = (
    "text.encoder=none", "sid.codes=8", "student.dim=16", "student.heads=2", "student.kv_heads=2", "student.ffn=16",
    "student.decoder_dim=16", "student.dropout=0", "student.pair_dim=4", "train.epochs=2", "train.batch_size=16",
    "train.record_every=1", "sasrec.dim=16", "sasrec.dropout=0", "sasrec.train.epochs=2", "sasrec.train.batch_size=16",
    "sasrec.train.record_every=1", "teacher.enabled=true", "recipe.size=none", "teacher.layers=1",
    'teacher.sources=["id"]',
    "teacher.dropout=0", "teacher.select=0.5", "teacher.train.epochs=1", "teacher.train.batch_size=16",
    "teacher.train.record_every=1", "soft_labels.shard_rows=40", "soft_labels.top=16", "soft_labels.sasrec_folds=2",
    "distill.sampled=0", "distill.temperature=1",
)  # fmt: skip
LAUNCH = (
    "accelerate.commands.launch", "--cpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no",
    "--dynamo_backend=no", "--main_process_port=0", "-m",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("input")
    generator = random.Random(0)
    lines = ["user_id,item_id,timestamp"]
    for user in range(60):
        start = generator.randrange(20)
        lines += [f"u{user},i{(start + step) % 20},{step}" for step in range(7)]
    (folder / "log.csv").write_text("\n".join(lines))
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=8, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    LlamaModel(shape).save_pretrained(folder / "llama")
    return folder


def train(inputs, run, *launcher):
    settings = (*SETTINGS, f"teacher.backbone={inputs / 'llama'}")
    command = [sys.executable, "-m", *launcher, "pocketrec", "train", "--interactions", inputs / "log.csv"]
    command += ["--out", run, "--json", *(part for setting in settings for part in ("--set", setting))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([str(part) for part in command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)  # one object, whatever the number of processes


def losses(run, stage):
    curve = json.loads((run / stage / "curve.json").read_text())
    return [point["loss"] for point in curve["losses"]]


def test_two_processes_make_the_run_of_one(inputs, tmp_path):
    one = train(inputs, tmp_path / "one")
    two = train(inputs, tmp_path / "two", *LAUNCH)
    for stage in ("sasrec", "teacher", "distill"):
        ours, theirs = losses(tmp_path / "one", stage), losses(tmp_path / "two", stage)
        assert len(ours) >= 2
        np.testing.assert_allclose(ours, theirs, rtol=2e-3)
    split = load_split(tmp_path / "one" / "data", DataConfig())
    labels = [SoftLabels(tmp_path / name / "soft-labels" / "labels", split.train) for name in ("one", "two")]
    assert len(list((tmp_path / "two" / "soft-labels" / "labels").glob("*.safetensors"))) > 2
    dense = []
    for made in labels:
        items, probabilities = made.at(split.train.event_positions())
        dense.append(np.zeros((len(items), 20), np.float32))
        np.put_along_axis(dense[-1], items.astype(np.int64), probabilities, 1)
    np.testing.assert_allclose(*dense, atol=5e-3)
    assert one["metrics"]["users"] == two["metrics"]["users"]
    assert one["metrics"]["recall@10"] == pytest.approx(two["metrics"]["recall@10"], abs=0.1)
    assert two["teachers"].keys() == {"committee", "teacher LLM"}
