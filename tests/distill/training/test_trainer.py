"""The training loop: reproducible, resumes exactly, and it learns."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.training.losses import HardLabels
from pocketrec.distill.training.trainer import fit
from pocketrec.runtime.errors import TrainingError
from tiny import random_rows, tiny_student

ROWS = random_rows(20)
SETTINGS = {
    "epochs": 4, "batch_size": 8, "learning_rate": 0.01, "validate_every": 1, "patience": 50,
    "record_every": 1, "checkpoint_steps": 2, "cpu": True, "ema": 0.5,
}  # fmt: skip


def histories():
    """Each user walks round a ring of items: the next one is certain."""
    generator = np.random.default_rng(0)
    walks = [np.arange(start, start + 7) % 20 for start in generator.integers(0, 20, 30)]
    return Sequences.from_lists([w.tolist() for w in walks])


class Interrupted(Exception):
    pass


def train(folder, settings=None, stop_at=None, on_gradients=None, **shape):
    """Train; `stop_at` raises in the middle of the epoch that follows so many validations."""
    config = TrainConfig(**{**SETTINGS, **(settings or {})})
    torch.manual_seed(0)
    model = HardLabels(tiny_student(seed=0, **{"dropout": 0.3, **shape}), ROWS)
    validations = []

    def validate(kept):
        validations.append(1)
        if len(validations) == stop_at:
            raise Interrupted
        probe = kept.student(torch.zeros(1, 3, 3, dtype=torch.int64))
        return {"recall@10": 0.0, "ndcg@10": float(probe.sum())}

    def batches(rank, world):
        return WindowBatches(
            histories(),
            6,
            config.batch_size,
            config.seed,
            accumulate=config.accumulate,
            rank=rank,
            world=world,
        )

    return fit(model, batches, validate, config, folder, on_gradients=on_gradients), model


def losses(state):
    return [(p["step"], p["loss"]) for p in state.losses]


def test_the_loss_of_a_certain_next_item_falls(tmp_path):
    state, _ = train(tmp_path, {"epochs": 25})
    curve = [loss for _, loss in losses(state)]
    assert np.mean(curve[-4:]) < 0.6 * np.mean(curve[:4])


def test_the_same_seed_gives_the_same_losses(tmp_path):
    first, a = train(tmp_path / "a")
    second, b = train(tmp_path / "b")
    other, _ = train(tmp_path / "c", {"seed": 1})
    assert losses(first) == losses(second)
    assert losses(first) != losses(other)
    for left, right in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("stop_at", [1, 3])
def test_an_interrupted_run_resumes_exactly_where_it_was(tmp_path, stop_at):
    whole, expected = train(tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", stop_at=stop_at)
    resumed, model = train(tmp_path / "cut")
    assert losses(resumed) == losses(whole)
    for left, right in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_run_killed_at_any_moment_resumes_exactly_where_it_was(tmp_path):
    script = textwrap.dedent(
        f"""
        import sys; sys.path[:0] = {sys.path!r}
        import os, signal
        sys.modules["__main__"].__file__ = "x"
        import test_trainer as t
        from pathlib import Path
        steps = []
        def on_gradients():
            steps.append(1)
            if len(steps) == 7:
                os.kill(os.getpid(), signal.SIGKILL)
        t.train(Path({str(tmp_path / "cut")!r}), on_gradients=on_gradients)
        """
    )
    here = os.path.dirname(__file__)
    done = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": f"{here}:{os.path.dirname(here)}"}
    )
    assert done.returncode == -signal.SIGKILL
    resumed, _ = train(tmp_path / "cut")
    whole, _ = train(tmp_path / "whole")
    assert losses(resumed) == losses(whole)


def test_micro_batches_give_the_losses_of_whole_ones(tmp_path):
    # Without dropout, since each micro-batch draws its own.
    whole, _ = train(tmp_path / "a", {"accumulate": 1}, dropout=0.0)
    parts, _ = train(tmp_path / "b", {"accumulate": 3}, dropout=0.0)
    np.testing.assert_allclose([x for _, x in losses(whole)], [x for _, x in losses(parts)], rtol=1e-4)


def train_with_scores(folder, scores, **settings):
    """Train with these validation scores in place of measured ones; return the weights of each validation too."""
    config = TrainConfig(**{**SETTINGS, "epochs": len(scores), "ema": 0.0, "checkpoint_steps": 0, **settings})
    torch.manual_seed(0)
    model = HardLabels(tiny_student(), ROWS)
    seen = []

    def validate(kept):
        seen.append({k: v.clone() for k, v in kept.state_dict().items()})
        return {"ndcg@10": scores[len(seen) - 1]}

    state = fit(model, lambda r, w: WindowBatches(histories(), 6, 8, 0), validate, config, folder)
    return state, model, seen


def test_training_stops_when_validation_no_longer_improves_and_keeps_the_best(tmp_path):
    scores = [0.1, 0.3, 0.4, 0.5, 0.2, 0.2, 0.1, 0.1]
    state, model, seen = train_with_scores(tmp_path, scores, patience=2, schedule="constant")
    assert [v["ndcg@10"] for v in state.validations] == scores[:6]
    assert state.best_epoch == 4
    assert state.best_score == pytest.approx(0.4)  # the mean of 0.3, 0.4 and 0.5
    kept = load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(kept[k], seen[3][k]) for k in kept)
    assert all(torch.equal(v, seen[3][k]) for k, v in model.state_dict().items())
    assert not torch.equal(seen[2]["student.start"], seen[3]["student.start"])


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_noise_neither_ends_a_run_while_the_rate_is_high_nor_wins_over_the_end_of_the_schedule(tmp_path, schedule):
    # A run of SASRec on Amazon Sports: 20 epochs, validated every other one, patience 3. By the best single score it
    # stopped at epoch 8 and kept epoch 2.
    scores = [0.0271, 0.0262, 0.0265, 0.0263, 0.0266, 0.0264, 0.0268, 0.0269, 0.0270, 0.0270]
    state, _, seen = train_with_scores(tmp_path, scores, epochs=20, validate_every=2, patience=3, schedule=schedule)
    assert len(state.validations) == 10
    assert state.best_epoch == 20
    kept = load_file(tmp_path / "best.safetensors")
    assert all(torch.equal(kept[k], seen[9][k]) for k in kept)


def test_a_run_whose_rate_is_low_ends_when_validations_get_worse(tmp_path):
    scores = [0.1 * n for n in range(12)] + [0.5] * 8
    state, _, _ = train_with_scores(tmp_path, scores, patience=3)
    assert len(state.validations) == 16  # the rate is below a quarter from epoch 14 on
    assert state.best_epoch == 12


def test_a_resumed_run_remembers_the_scores_of_its_window(tmp_path):
    scores = [0.1, 0.9, 0.8, 0.2, 0.3, 0.3]
    whole, _, seen = train_with_scores(tmp_path / "whole", scores)

    with pytest.raises(IndexError):  # the fourth validation fails
        train_with_scores(tmp_path / "cut", scores[:3], epochs=6)
    resumed, _, _ = train_with_scores(tmp_path / "cut", scores[3:], epochs=6)
    assert (resumed.best_epoch, resumed.best_score, resumed.bad_validations) == (
        whole.best_epoch, whole.best_score, whole.bad_validations
    )  # fmt: skip
    assert resumed.validations == whole.validations
    kept = load_file(tmp_path / "cut" / "best.safetensors")
    assert all(torch.equal(kept[k], seen[whole.best_epoch - 1][k]) for k in kept)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    with pytest.raises(TrainingError, match=r"lower train\.learning_rate"):
        train(tmp_path, {"learning_rate": 1e30, "clip_norm": 0.0, "epochs": 10})


def test_a_damaged_checkpoint_is_refused_and_kept(tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path, stop_at=3)
    model = tmp_path / "checkpoint" / "model.safetensors"
    model.write_bytes(model.read_bytes()[:100])
    with pytest.raises(TrainingError, match="checkpoint"):
        train(tmp_path)
    assert model.exists()


def test_a_checkpoint_of_another_model_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path, stop_at=3)
    with pytest.raises(TrainingError, match=r"(?s)does not fit this model .* delete it to start again"):
        train(tmp_path, ffn=32)


def test_a_run_killed_while_a_checkpoint_was_replaced_resumes_from_the_one_before(tmp_path):
    with pytest.raises(Interrupted):
        train(tmp_path / "cut", stop_at=3)
    checkpoint = tmp_path / "cut" / "checkpoint"
    checkpoint.rename(checkpoint.with_name("checkpoint.old"))
    resumed, _ = train(tmp_path / "cut")
    whole, _ = train(tmp_path / "whole")
    assert losses(resumed) == losses(whole)
    assert not checkpoint.with_name("checkpoint.old").exists()


def test_two_processes_give_the_losses_of_one(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys; sys.path[:0] = {sys.path!r}
            import json, os
            from pathlib import Path
            import test_trainer as t
            state, _ = t.train(Path({str(tmp_path / "two")!r}), dropout=0.0)
            if os.environ["RANK"] == "0":
                Path({str(tmp_path / "losses.json")!r}).write_text(json.dumps(t.losses(state)))
            """
        )
    )
    here = os.path.dirname(__file__)
    environment = {**os.environ, "PYTHONPATH": f"{here}:{os.path.dirname(here)}", "OMP_NUM_THREADS": "1"}
    command = ["torch.distributed.run", "--nproc-per-node=2", "--standalone", str(script)]
    done = subprocess.run([sys.executable, "-m", *command], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, _ = train(tmp_path / "one", dropout=0.0)
    two = json.loads((tmp_path / "losses.json").read_text())
    np.testing.assert_allclose([x for _, x in losses(one)], [x for _, x in two], rtol=1e-4)
