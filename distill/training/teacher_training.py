"""Training the teacher, and reading and writing its files.

On the path of the data: a split and the items' sources in; the teacher of the best validation out. Its folder holds
`best.safetensors` (all weights, frozen ones too), `teacher.json` and the architecture of the backbone. Reading it needs
neither the weights nor the tokenizer of the language model.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file
from safetensors.torch import load_file
from torch import nn

from pocketrec.distill.config import TeacherConfig
from pocketrec.distill.data.batches import window_batches
from pocketrec.distill.data.splits import Sequences, Split
from pocketrec.distill.evaluation.validation import Validation
from pocketrec.distill.models.backbone import Backbone, read_backbone, save_shape, shape_only
from pocketrec.distill.models.presets import apply_preset
from pocketrec.distill.models.sasrec import Sasrec
from pocketrec.distill.models.source_table import ItemSources
from pocketrec.distill.models.teacher import Teacher, TeacherRanker
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
from pocketrec.distill.training.history_effort import effort_scores, gradient_effort
from pocketrec.distill.training.history_influence import influence_scores
from pocketrec.distill.training.history_selection import combine_scores, select_histories
from pocketrec.distill.training.trainer import BEST_WEIGHTS, LoopState, find_checkpoint, fit
from pocketrec.runtime.errors import ConfigError, TrainingError
from pocketrec.runtime.files.atomic import atomic_file, atomic_write_text

logger = logging.getLogger(__name__)

ABOUT = "teacher.json"
SELECTED = "selected.safetensors"
EFFORT = 0.5  # weight of the LLM's effort score; the surrogate's influence score has weight 1
BACKBONE = "backbone"  # folder with the architecture of the backbone


def train_teacher(
    split: Split,
    sources: ItemSources,
    n_items: int,
    config: TeacherConfig,
    max_history: int,
    folder: Path,
    progress: Progress = SILENT,
    surrogate: Sasrec | None = None,
) -> tuple[Teacher, LoopState]:
    """Train a teacher and write its files to `folder`; resumes from a checkpoint there.

    Where `id` is a source, the items' own embeddings are initialised with collaborative vectors.

    :param sources: sources of the whole catalogue.
    :param surrogate: a trained SASRec; needed if `teacher.select` is below 1 and histories are selected by influence.
    :returns: the model with the best weights, and the progress of the training.
    :raises ConfigError, DataError, MissingExtraError: if the backbone or a source is missing.
    :raises TrainingError: if the loss is not finite, or the checkpoint cannot be read.
    """
    config = apply_preset(config)
    settings = config.train
    model = new_teacher(config, split.train, sources, n_items, max_history, folder)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("teacher: %d parameters, %d of them trained", model.parameters_count, trained)
    validation = Validation.of(split, n_items, settings)

    def validate(kept: nn.Module) -> dict[str, float]:
        assert isinstance(kept, Teacher)
        return validation.scores(TeacherRanker(kept))

    with PartialState(cpu=settings.cpu).main_process_first():  # it selects, the others read its selection
        train = _selected(split.train, model, surrogate, config, folder, progress)
    batches = window_batches(train, max_history, settings)
    state = fit(model, batches, validate, settings, folder, progress, "training the teacher")
    return model, state


def new_teacher(
    config: TeacherConfig, train: Sequences, sources: ItemSources, n_items: int, max_history: int, folder: Path
) -> Teacher:
    """Build an untrained teacher and write its architecture to `folder`.

    :param config: with its preset applied.
    """
    torch.manual_seed(config.train.seed)
    backbone = _backbone(config, n_items, max_history, folder)
    model = Teacher(config, backbone, sources, n_items, max_history)
    if "id" in config.sources:
        model.start_from(collaborative_vectors(train, n_items, dim=config.source_dim, seed=config.train.seed))
    return model


def load_teacher(folder: Path, config: TeacherConfig, sources: ItemSources, n_items: int) -> Teacher:
    """Read the teacher that `train_teacher` left in `folder`.

    :param sources: sources of the catalogue that it was trained on; new items may follow at the end.
    :param n_items: number of items in `sources`.
    :raises TrainingError: if files are missing, damaged, or of another configuration.
    """
    config = apply_preset(config)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        backbone = shape_only(folder / BACKBONE, about["prompt_tokens"])
        known = about["n_items"]
        model = Teacher(config, backbone, _first(sources, known), known, about["max_history"])
        model.load_state_dict(load_file(folder / BEST_WEIGHTS))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrainingError(f"the teacher in {folder} cannot be read ({error}); run the teacher stage again") from error
    if n_items != known:
        model.extend(sources, n_items)
    return model.eval()


def _backbone(config: TeacherConfig, n_items: int, max_history: int, folder: Path) -> Backbone:
    """Load the backbone; if a checkpoint of the same backbone will supply the weights, only build its shape."""
    settings = {"backbone": config.backbone, "layers": config.layers, "prompt": config.prompt}
    about = folder / ABOUT
    if about.exists() and find_checkpoint(folder) is not None:
        written = json.loads(about.read_text(encoding="utf-8"))
        if written["asked"] == settings:
            return shape_only(folder / BACKBONE, written["prompt_tokens"])
    backbone = read_backbone(config)
    if not PartialState(cpu=config.train.cpu).is_main_process:
        return backbone
    folder.mkdir(parents=True, exist_ok=True)
    save_shape(backbone.body, folder / BACKBONE)
    noted = {"n_items": n_items, "max_history": max_history, "prompt_tokens": len(backbone.prompt), "asked": settings}
    atomic_write_text(about, json.dumps(noted, indent=1) + "\n")
    return backbone


def _selected(
    train: Sequences, model: Teacher, surrogate: Sasrec | None, config: TeacherConfig, folder: Path, progress: Progress
) -> Sequences:
    """Select the training histories, once: a resumed run reads the selection, since its scores would differ."""
    if config.select == 1.0:
        return train
    path = folder / SELECTED
    if not path.exists():
        scores = None
        if config.select_by == "influence":
            if surrogate is None:
                raise ConfigError(
                    "teacher.select_by = 'influence' needs SASRec; set sasrec.enabled = true, or "
                    "teacher.select_by = 'random'"
                )
            scores = history_scores(train, model, surrogate, config.train.seed, progress)
        save_selection(select_histories(train, config.select, scores, seed=config.train.seed), folder)
    kept = load_arrays(path)
    return Sequences(train.items, kept["starts"], kept["ends"], train.weights)


def history_scores(
    train: Sequences, model: Teacher, surrogate: Sasrec, seed: int, progress: Progress
) -> NDArray[np.float32]:
    """Return the scores that histories are selected by, influence and effort combined (DEALRec), float32 [n].

    Both are divided by the length of the history; undivided, they would favour long histories.
    """
    influence = influence_scores(surrogate, train, model.max_history, seed=seed, progress=progress)
    effort = effort_scores(gradient_effort(model, [model.project]), train, model.max_history, progress=progress)
    lengths = np.maximum(train.lengths, 1)
    return combine_scores(influence / lengths, effort / lengths, EFFORT)


def save_selection(chosen: Sequences, folder: Path) -> None:
    """Write the selection of histories that a teacher is trained on in `folder`, if `teacher.select` is below 1."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / SELECTED) as temporary:
        save_file({"starts": chosen.starts, "ends": chosen.ends}, temporary)


def _first(sources: ItemSources, n_items: int) -> ItemSources:
    """Return the sources of the first `n_items` items."""
    cut: dict[str, Any] = {
        name: None if getattr(sources, name) is None else getattr(sources, name)[:n_items]
        for name in ("text", "collaborative", "image", "sids")
    }
    return replace(sources, **cut)
