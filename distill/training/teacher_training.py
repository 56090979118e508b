"""Training the teacher, and reading it back.

On the path of the data: a split and the items' sources in; the teacher of the best validation out, as
`best.safetensors` (all weights, the frozen ones too), `teacher.json` and the backbone's architecture in one folder,
which is all that reading it back needs: neither the language model's own weights nor its tokenizer.
"""

from __future__ import annotations

import json
import logging
import os
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
from pocketrec.distill.evaluation.protocol import sample, validation_scores
from pocketrec.distill.models.backbone import Backbone, read_backbone, save_shape, shape_only
from pocketrec.distill.models.presets import apply_preset
from pocketrec.distill.models.sasrec import Sasrec
from pocketrec.distill.models.source_table import ItemSources
from pocketrec.distill.models.teacher import Teacher, TeacherRanker
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
from pocketrec.distill.training.history_effort import effort_scores, gradient_effort
from pocketrec.distill.training.history_influence import influence_scores
from pocketrec.distill.training.history_selection import combine, select_histories
from pocketrec.distill.training.trainer import CHECKPOINT, LoopState, fit
from pocketrec.runtime.errors import ConfigError, TrainingError

logger = logging.getLogger(__name__)

ABOUT = "teacher.json"
SELECTED = "selected.safetensors"
EFFORT = 0.5  # weight of the LLM's effort beside the surrogate's influence
SHAPE = "backbone"  # the folder of the body's architecture


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
    """Train a teacher; goes on from a checkpoint. The best weights are in the model and in `folder`.

    Where `id` is a source, items' own embeddings begin as collaborative vectors of the training histories.

    :param sources: of the whole catalogue.
    :param surrogate: a trained SASRec, which `teacher.select` below 1 by influence needs.
    :raises ConfigError, DataError, MissingExtraError: if the backbone or a source is not there.
    """
    config = apply_preset(config)
    settings = config.train
    model = new_teacher(config, split.train, sources, n_items, max_history, folder)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("teacher: %d parameters, %d of them trained", model.parameters_count, trained)
    questions = sample(split.valid, settings.validate_users, settings.seed)

    def validate(kept: nn.Module) -> dict[str, float]:
        assert isinstance(kept, Teacher)
        return validation_scores(TeacherRanker(kept), questions, n_items, max_history)

    with PartialState(cpu=settings.cpu).main_process_first():  # it scores, the others read what it chose
        train = _selected(split.train, model, surrogate, config, folder, progress)
    batches = window_batches(train, max_history, settings)
    state = fit(model, batches, validate, settings, folder, progress, "training the teacher")
    return model, state


def new_teacher(
    config: TeacherConfig, train: Sequences, sources: ItemSources, n_items: int, max_history: int, folder: Path
) -> Teacher:
    """Build a teacher as it is before training; its architecture is written into `folder`.

    :param config: with its preset applied.
    """
    torch.manual_seed(config.train.seed)
    backbone = _backbone(config, n_items, max_history, folder)
    model = Teacher(config, backbone, sources, n_items, max_history)
    if "id" in config.sources:
        model.start_from(collaborative_vectors(train, n_items, dim=config.source_dim, seed=config.train.seed))
    return model


def load_teacher(folder: Path, config: TeacherConfig, sources: ItemSources, n_items: int) -> Teacher:
    """Read the teacher that `train_teacher` kept.

    :param sources: of the catalogue it was trained on, or of that and new items behind it.
    :param n_items: rows of `sources`.
    :raises TrainingError: if the folder's files are missing or belong to another configuration.
    """
    config = apply_preset(config)
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        backbone = shape_only(folder / SHAPE, about["prompt_tokens"])
        known = about["n_items"]
        model = Teacher(config, backbone, _first(sources, known), known, about["max_history"])
        model.load_state_dict(load_file(folder / "best.safetensors"))
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise TrainingError(f"the teacher in {folder} cannot be read ({error}); train it again") from error
    if n_items != known:
        model.extend(sources, n_items)
    return model.eval()


def _backbone(config: TeacherConfig, n_items: int, max_history: int, folder: Path) -> Backbone:
    """Load the backbone, unless a checkpoint of the same one will bring its weights anyway."""
    asked = {"backbone": config.backbone, "layers": config.layers, "prompt": config.prompt}
    about = folder / ABOUT
    if about.exists() and any((folder / (CHECKPOINT + end)).exists() for end in ("", ".old")):
        written = json.loads(about.read_text(encoding="utf-8"))
        if written["asked"] == asked:
            return shape_only(folder / SHAPE, written["prompt_tokens"])
    backbone = read_backbone(config)
    if not PartialState(cpu=config.train.cpu).is_main_process:
        return backbone
    folder.mkdir(parents=True, exist_ok=True)
    save_shape(backbone.body, folder / SHAPE)
    kept = {"n_items": n_items, "max_history": max_history, "prompt_tokens": len(backbone.prompt), "asked": asked}
    about.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    return backbone


def _selected(
    train: Sequences, model: Teacher, surrogate: Sasrec | None, config: TeacherConfig, folder: Path, progress: Progress
) -> Sequences:
    """Choose the histories to learn from; chosen once, since a resumed run could not score them the same again."""
    if config.select == 1.0:
        return train
    path = folder / SELECTED
    if not path.exists():
        scores = None
        if config.select_by == "influence":
            if surrogate is None:
                raise ConfigError(
                    "teacher.select_by = 'influence' needs SASRec; set sasrec.enabled, or choose 'random'"
                )
            scores = history_scores(train, model, surrogate, config.train.seed, progress)
        save_selection(select_histories(train, config.select, scores, seed=config.train.seed), folder)
    kept = load_arrays(path)
    return Sequences(train.items, kept["starts"], kept["ends"])


def history_scores(
    train: Sequences, model: Teacher, surrogate: Sasrec, seed: int, progress: Progress
) -> NDArray[np.float32]:
    """DEALRec's scores of histories, influence on a surrogate and effort of the teacher, float32 [n].

    They are per event: both grow with a history's length, and would otherwise only choose the long ones.
    """
    influence = influence_scores(surrogate, train, model.max_history, seed=seed, progress=progress)
    effort = effort_scores(gradient_effort(model, [model.project]), train, model.max_history, progress=progress)
    lengths = np.maximum(train.lengths, 1)
    return combine(influence / lengths, effort / lengths, EFFORT)


def save_selection(chosen: Sequences, folder: Path) -> None:
    """Note which histories a teacher that is trained in `folder` learns from, where `teacher.select` is below 1."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / (SELECTED + ".partial")
    save_file({"starts": chosen.starts, "ends": chosen.ends}, partial)
    os.replace(partial, folder / SELECTED)


def _first(sources: ItemSources, n_items: int) -> ItemSources:
    """Return the sources of the first items."""
    cut: dict[str, Any] = {
        name: None if getattr(sources, name) is None else getattr(sources, name)[:n_items]
        for name in ("text", "collaborative", "image", "sids")
    }
    return replace(sources, **cut)
