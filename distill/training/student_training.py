"""Training the student on semantic IDs, and reading and writing its files.

On the path of the data: a split, semantic IDs and (where there is a teacher) soft labels in; the student of the best
validation out. A folder of weights holds `best.safetensors` and `student.json`, the student's shape.
"""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import numpy as np
import torch
from accelerate import PartialState
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from pocketrec.distill.committee.soft_labels import SoftLabels
from pocketrec.distill.config import DistillConfig, StudentConfig, TrainConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.data.splits import Split
from pocketrec.distill.evaluation.validation import Validation
from pocketrec.distill.models.student import Student
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.pruning.removal import at_depth
from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
from pocketrec.distill.training.losses import Distillation, HardLabels
from pocketrec.distill.training.trainer import BEST_WEIGHTS, LoopState, fit, save_weights
from pocketrec.runtime.errors import TrainingError
from pocketrec.runtime.files.atomic import atomic_write

ITEM_LENGTH = 2**0.5  # initial length of an item's token, whatever the weights of its sources
SHAPE = "student.json"


def train_student(
    split: Split,
    ids: SemanticIds,
    shape: StudentConfig,
    settings: TrainConfig,
    folder: Path,
    progress: Progress = SILENT,
    labels: SoftLabels | None = None,
    distill: DistillConfig | None = None,
    first_layers: nn.ModuleList | None = None,
    convention: str | None = None,
) -> LoopState:
    """Train a student and write `best.safetensors` and `student.json` to `folder`; resumes from a checkpoint there.

    :param labels: the committee's soft labels; None: hard labels only.
    :param distill: weights of the losses, with `labels`.
    :param first_layers: a teacher's layers that the student's blocks are initialised with; None: random weights.
    :param convention: in which the best validation is chosen; None: as `Validation.of` decides.
    :raises TrainingError: if the loss is not finite, or the checkpoint cannot be read.
    """
    torch.manual_seed(settings.seed)
    student = Student(shape, ids.rows.shape[1], ids.codes, ids.rows)
    student.start_from(ids.codebooks.centroids * np.float32(ITEM_LENGTH / ids.space.length))
    if student.pairs is not None:
        vectors = collaborative_vectors(split.train, len(ids.rows), dim=shape.pair_dim, seed=settings.seed)
        student.pairs.start_from(vectors, ids.rows)
    if first_layers is not None:
        student.start_from_layers(first_layers)

    validation = Validation.of(split, len(ids.rows), settings, convention)

    def validate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, (HardLabels, Distillation))
        return validation.student_scores(model.student, ids)

    if PartialState(cpu=settings.cpu).is_main_process:
        _save_shape(shape, folder)
    return fit(
        student_loss(student, ids, settings, labels, distill),
        window_batches(split.train, shape.max_history, settings),
        validate,
        settings,
        folder,
        progress,
        "training the student" if labels is None else "distilling the student",
    )


def student_loss(
    student: Student,
    ids: SemanticIds,
    settings: TrainConfig,
    labels: SoftLabels | None = None,
    distill: DistillConfig | None = None,
) -> HardLabels | Distillation:
    """Wrap a student in its loss: with soft labels if they are given, else with hard labels only."""
    if labels is None:
        return HardLabels(student, ids.rows, settings.label_smoothing, settings.unlikelihood)
    return Distillation(student, ids.rows, labels, distill or DistillConfig(), settings.unlikelihood)


def load_student(folder: Path, ids: SemanticIds, depth: int = 0) -> Student:
    """Read a student from a folder of weights (`best.safetensors`, `student.json`).

    :param depth: number of layers to keep, from the first; 0: all.
    :raises TrainingError: if a file is missing, or the files do not belong together.
    :raises ConfigError: if the student has fewer layers than `depth`.
    """
    student = Student(load_shape(folder), ids.rows.shape[1], ids.codes, ids.rows)
    prefix = "student."  # other tensors of the loss module (projections of features) are not needed
    try:
        weights = load_file(folder / BEST_WEIGHTS)
        own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
        student.load_state_dict(own)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(f"the student in {folder} cannot be read ({error}); train or prune it again") from error
    return (at_depth(student, depth) if depth else student).eval()


def load_shape(folder: Path) -> StudentConfig:
    """Read the shape of the student in a folder of weights.

    :raises TrainingError: if the folder has no readable `student.json`.
    """
    try:
        if (folder / SHAPE).exists():
            return msgspec.json.decode((folder / SHAPE).read_bytes(), type=StudentConfig)
        # Older runs have the shape only in the configuration of the run.
        config = json.loads((folder.parent / "config.json").read_text(encoding="utf-8"))
        return msgspec.convert(config["student"], StudentConfig)
    except (OSError, ValueError, KeyError) as error:
        raise TrainingError(
            f"the shape of the student in {folder} cannot be read ({error}); give a folder with {SHAPE} and "
            f"{BEST_WEIGHTS}"
        ) from error


def save_student(student: Student, folder: Path) -> None:
    """Write a student's files as `train_student` does."""
    _save_shape(student.config, folder)
    save_weights(nn.ModuleDict({"student": student}), folder / BEST_WEIGHTS)


def _save_shape(shape: StudentConfig, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(folder / SHAPE, [msgspec.json.format(msgspec.json.encode(shape)), b"\n"])
