"""The training loop of all models: the student, SASRec and the teacher.

It runs under Accelerate, so the same call works on a CPU, a GPU or several processes. Promises: the same seed gives the
same losses; a run that was killed and resumed gives the losses of one that was not; checkpoints are written whole or
not at all; the weights that remain are those of the best validations (`distill.training.model_selection`).
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pocketrec.distill.config import TrainConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.training.model_selection import may_end, newest_is_best, smoothed, window_size
from pocketrec.runtime.errors import TrainingError
from pocketrec.runtime.files.atomic import (
    atomic_file,
    begin_folder,
    discard_unfinished,
    old_folder,
    partial_folder,
    put_in_place,
)

logger = logging.getLogger(__name__)

Validate = Callable[[nn.Module], dict[str, float]]
CHECKPOINT = "checkpoint"
BEST_WEIGHTS = "best.safetensors"


@dataclass
class LoopState:
    """The progress of a training run, saved with every checkpoint.

    losses: the loss curve, one mean per `record_every` steps. validations: epoch and scores of every validation.
    best_score: mean of the best window of validations. best_epoch: the last one in it, whose weights are kept.
    bad_validations: validations without a better window since then, of those that may end the run.
    """

    epoch: int = 0
    batch: int = 0  # batches of this epoch that are done
    step: int = 0
    best_score: float = -math.inf
    best_epoch: int = -1
    bad_validations: int = 0
    seconds: float = 0.0
    done: bool = False
    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)
    window: list[float] = field(default_factory=list)

    def state_dict(self) -> dict[str, Any]:
        """For Accelerate."""
        return {"json": json.dumps(asdict(self))}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """For Accelerate."""
        self.__dict__.update(json.loads(state["json"]))


def fit(
    model: nn.Module,
    batches: Callable[[int, int], WindowBatches],
    validate: Validate,
    config: TrainConfig,
    folder: Path,
    progress: Progress = SILENT,
    label: str = "training",
    on_gradients: Callable[[], None] | None = None,
) -> LoopState:
    """Train until all epochs are done or validation stops improving; `model` then has the best weights.

    `distill.training.model_selection` says which weights are best, and when a run may end early. Resumes from the
    checkpoint in `folder` if there is one. Writes `folder/best.safetensors`.

    :param model: called with a `Batch`, returns the summed loss of its positions.
    :param batches: returns the batches of a process, given (rank, number of processes).
    :param validate: returns the scores of a model in eval mode, `config.metric` among them; called on the main process
        only.
    :param folder: where checkpoints and the best weights are written.
    :param on_gradients: called before every optimiser step, when parameters have the gradients of the whole batch.
    :raises TrainingError: if the loss is not finite, or the checkpoint cannot be read.
    """
    return _Loop(model, batches, validate, config, folder, on_gradients).run(progress, label)


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        batches: Callable[[int, int], WindowBatches],
        validate: Validate,
        config: TrainConfig,
        folder: Path,
        on_gradients: Callable[[], None] | None = None,
    ) -> None:
        self.config, self.folder, self.validate, self.raw = config, folder, validate, model
        self.on_gradients = on_gradients
        self.accelerator = Accelerator(mixed_precision=config.precision, cpu=config.cpu)
        set_seed(config.seed + self.accelerator.process_index)
        self.batches = batches(self.accelerator.process_index, self.accelerator.num_processes)
        self.state = LoopState()
        optimiser = torch.optim.AdamW(_groups(model, config.weight_decay), lr=config.learning_rate, betas=(0.9, 0.98))
        self.total_steps = config.epochs * len(self.batches)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, self._rate)
        self.model, self.optimiser = self.accelerator.prepare(model, optimiser)
        average = get_ema_multi_avg_fn(config.ema)  # type: ignore[no-untyped-call]
        self.average = AveragedModel(model, multi_avg_fn=average) if config.ema else None
        kept = [self.scheduler, self.state] + ([self.average] if self.average else [])
        self.accelerator.register_for_checkpointing(*kept)

    @property
    def _warmup(self) -> int:
        return max(1, round(self.config.warmup * self.total_steps))

    def _rate(self, step: int) -> float:
        """Return the learning rate at a step as a share of its peak."""
        if step < self._warmup:
            return (step + 1) / self._warmup
        share = min(1.0, (step - self._warmup) / max(1, self.total_steps - self._warmup))
        if self.config.schedule == "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * share))
        return 1.0 - share if self.config.schedule == "linear" else 1.0

    def run(self, progress: Progress, label: str) -> LoopState:
        self._resume()
        state = self.state
        with progress.track(label, self.total_steps) as advance:
            advance(state.step)
            while not state.done:
                self._epoch(advance)
                self._close_epoch(advance)
        best = load_file(self.folder / BEST_WEIGHTS)
        self.raw.load_state_dict({k: v.to(next(self.raw.parameters()).device) for k, v in best.items()})
        self.raw.eval()
        return state

    def _epoch(self, advance: Callable[..., None]) -> None:
        state, config = self.state, self.config
        self.model.train()
        begun = time.monotonic()
        for number, micro_batches in enumerate(self.batches.epoch(state.epoch)):
            if number < state.batch:
                continue
            loss = self._step(micro_batches)
            state.step, state.batch = state.step + 1, number + 1
            self._record(loss, advance)
            if config.checkpoint_steps and state.step % config.checkpoint_steps == 0:
                state.seconds += time.monotonic() - begun
                begun = time.monotonic()
                self._checkpoint()
        state.seconds += time.monotonic() - begun

    def _step(self, micro_batches: list[Any]) -> float:
        total = torch.zeros((), device=self.accelerator.device)
        for number, batch in enumerate(micro_batches):
            last = number + 1 == len(micro_batches)
            with (
                self.accelerator.no_sync(self.model) if not last else nullcontext(),
                self.accelerator.autocast(),
            ):
                # Accelerate averages gradients over processes; the loss is a mean over the positions of all of them.
                loss = self.model(batch.to(self.accelerator.device)) / batch.total
                self.accelerator.backward(loss * self.accelerator.num_processes)
            total += loss.detach()
        if self.config.clip_norm:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        if self.on_gradients is not None:
            self.on_gradients()
        self.optimiser.step()
        self.scheduler.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update_parameters(self.raw)
        value = float(self.accelerator.reduce(total, "sum"))
        if not math.isfinite(value):
            raise TrainingError(
                f"the loss became {value} at step {self.state.step}; lower train.learning_rate, "
                "or set train.precision = 'no'"
            )
        return value

    def _record(self, loss: float, advance: Callable[..., None]) -> None:
        state = self.state
        state.window.append(loss)
        if len(state.window) == self.config.record_every:
            mean = sum(state.window) / len(state.window)
            epoch = state.epoch + state.batch / len(self.batches)
            rate = float(self.scheduler.get_last_lr()[0])
            state.losses.append({"step": state.step, "epoch": epoch, "loss": mean, "learning_rate": rate})
            state.window.clear()
        best = f", best {state.best_score:.4f}" if state.best_epoch >= 0 else ""
        advance(1, f"epoch {state.epoch + 1}/{self.config.epochs} loss {loss:.3f}{best}")

    def _close_epoch(self, advance: Callable[..., None]) -> None:
        state, config = self.state, self.config
        state.epoch, state.batch = state.epoch + 1, 0
        last = state.epoch == config.epochs
        if last or state.epoch % config.validate_every == 0:
            begun = time.monotonic()
            self._validate()
            state.seconds += time.monotonic() - begun
        state.done = last or state.bad_validations >= config.patience
        if state.done and not last:
            advance((config.epochs - state.epoch) * len(self.batches), "stopped early")
        self._checkpoint()

    def _validate(self) -> None:
        state = self.state
        if self.accelerator.is_main_process:
            kept = self.average.module if self.average is not None else self.raw
            kept.eval()
            with torch.inference_mode():
                scores = self.validate(kept)
            state.validations.append({"epoch": state.epoch, **scores})
            size = window_size(math.ceil(self.config.epochs / self.config.validate_every))
            measured = [validation[self.config.metric] for validation in state.validations]
            if newest_is_best(measured, size):
                state.best_score, state.best_epoch = smoothed(measured, size), state.epoch
                state.bad_validations = 0
                save_weights(kept, self.folder / BEST_WEIGHTS)
            elif may_end(self.config.schedule, self._rate(state.step), state.step < self._warmup):
                state.bad_validations += 1
            logger.info("epoch %d: %s", state.epoch, scores)
        if self.accelerator.num_processes > 1:
            shared = [state.state_dict()]
            torch.distributed.broadcast_object_list(shared)
            state.load_state_dict(shared[0])

    def _checkpoint(self) -> None:
        """Save beside the last checkpoint, which the new one then replaces; all processes take part."""
        checkpoint = self.folder / CHECKPOINT
        if self.accelerator.is_main_process:
            begin_folder(checkpoint)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial_folder(checkpoint)))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            put_in_place(partial_folder(checkpoint), checkpoint)

    def _resume(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        folder = find_checkpoint(self.folder)
        if folder is None:
            return
        try:
            self.accelerator.load_state(str(folder))
        except Exception as error:
            raise TrainingError(
                f"the checkpoint {folder} does not fit this model or is damaged ({error}); delete it to start again, "
                "or restore the configuration and the version of pocketrec that it was written with"
            ) from error
        logger.info("resumed from %s at step %d", folder, self.state.step)


def find_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint in a folder of `fit`, or the one before it if writing was interrupted; None if none."""
    checkpoint = folder / CHECKPOINT
    return next((path for path in (checkpoint, old_folder(checkpoint)) if path.exists()), None)


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups: matrices with weight decay; vectors (norms, biases, the start token) without."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def save_weights(model: nn.Module, path: Path) -> None:
    """Write a model's weights as safetensors, whole or not at all; no other process may write the same file."""
    weights: dict[str, Tensor] = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    discard_unfinished(path)
    with atomic_file(path) as temporary:
        save_file(weights, temporary)
