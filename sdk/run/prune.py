"""Prunes the student of a run: collects what `distill.pruning.prune` needs from the run's folder, and writes the notes.

A checkpoint folder holds `best.safetensors` and `student.json` (a student like any other, read by
`distill.training.student_training.load_student`), `curve.json`, and `prune.json`: the shape and size before and after,
and the run that the checkpoint belongs to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs

from pocketrec.config import config_to_dict
from pocketrec.distill.config import PruneConfig, RunConfig, StudentConfig
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.processes import ALONE, Processes
from pocketrec.run.run import BEST_WEIGHTS, CURVE, EVENTS, LABELS, PRUNED, SHAPE, SIDS, Run, read_json, write_json
from pocketrec.run.stages import Stage, StageRunner
from pocketrec.runtime.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pocketrec.distill.models.student import Student
    from pocketrec.distill.pruning.prune import Pruned
    from pocketrec.distill.pruning.shape_plan import Budget
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds


def prune_checkpoint(
    run: Run, start: Path | None, out: Path, progress: Progress = SILENT, processes: Processes = ALONE
) -> dict[str, Any]:
    """Prune a run's student into a checkpoint folder; a finished one is not made again, an interrupted one is resumed.

    :param run: a run with its data, semantic IDs and student (and soft labels, if it has a teacher).
    :param start: folder of the weights to start from; None: the run's last.
    :param out: the checkpoint's folder; another checkpoint there is replaced.
    :returns: the content of its `prune.json`.
    :raises ConfigError: if no target is set, or `out` holds something else.
    :raises DataError: if a file of the run is missing.
    """
    config = run.config
    if not config.prune.wanted:
        raise ConfigError("there is no target for pruning; give --ratio, --parameters or --bytes")
    if out.exists() and any(out.iterdir()) and not ((out / PRUNED).exists() or (out / "cutting").exists()):
        raise ConfigError(f"{out} exists and is no pruned checkpoint; choose another folder")
    begin = start or run.folder / run.start_stage
    needs = [run.folder / EVENTS, run.folder / SIDS, begin / BEST_WEIGHTS]
    needs += [run.folder / LABELS] if uses_labels(config) else []
    for path in needs:
        if not path.exists():
            raise DataError(
                f"{path} does not exist; give the folder of a finished run, and as --start a folder with {BEST_WEIGHTS}"
            )
    needs += [begin / SHAPE] if (begin / SHAPE).exists() else []
    stage = Stage(
        out.name, "prune the student", prune_sections(config), tuple(str(path.resolve()) for path in needs),
        (BEST_WEIGHTS, SHAPE, CURVE, PRUNED), lambda folder: prune_run(run, begin, folder, progress, processes),
        together=True,
    )  # fmt: skip
    StageRunner(out.parent, [stage], config_to_dict(config), {}, processes).run()
    return read_json(out / PRUNED)


def prune_sections(config: RunConfig) -> tuple[str, ...]:
    """Return the sections and settings of the configuration that pruning depends on."""
    loss = ("train.unlikelihood", "train.label_smoothing")
    return ("prune", "data", *loss, *(("distill", "soft_labels") if uses_labels(config) else ()))


def prune_settings(config: RunConfig) -> PruneConfig:
    """Return `config.prune` with the loss that the student was trained on."""
    loss = {"unlikelihood": config.train.unlikelihood, "label_smoothing": config.train.label_smoothing}
    return structs.replace(config.prune, train=structs.replace(config.prune.train, **loss))


def uses_labels(config: RunConfig) -> bool:
    """Whether pruning learns from soft labels."""
    return config.teacher.enabled and config.prune.soft_labels


def prune_run(run: Run, start: Path, folder: Path, progress: Progress, processes: Processes) -> None:
    """Prune a student of a run into a folder; the module's docstring lists the files.

    :param start: folder of the weights to start from.
    """
    from pocketrec.distill.committee.labelling import labelled
    from pocketrec.distill.committee.soft_labels import SoftLabels
    from pocketrec.distill.evaluation.validation import selection_record
    from pocketrec.distill.pruning.prune import prune_student
    from pocketrec.distill.training.student_training import load_student

    config, split, ids, labels = run.config, run.split, run.ids, None
    if uses_labels(config):
        split = replace(split, train=labelled(split.train, config.soft_labels))
        labels = SoftLabels(run.folder / LABELS, split.train)
    before = load_student(start, ids)
    target = budget(config.prune, before, ids)
    settings = prune_settings(config)
    after, result = prune_student(before, split, ids, settings, target, folder, progress, labels, config.distill)
    if processes.main:
        write_json(folder / CURVE, {**_curve(result), "selection": selection_record(run.split)})
        places = {"run": _place(run.folder, folder), "start": _place(start, folder)}
        sizes = {"before": _size(before), "after": _size(after)}
        write_json(folder / PRUNED, {**places, **_note(config, result), **sizes})


def budget(config: PruneConfig, student: Student, ids: SemanticIds) -> Budget:
    """Return the target that a configuration sets for a student.

    :raises ConfigError: if it sets none.
    """
    from pocketrec.distill.pruning.shape_plan import Budget

    if config.bytes is not None:
        return Budget(config.bytes, "bytes", _costs(ids)[1])
    count = _costs(ids)[0]
    if config.parameters is not None:
        return Budget(config.parameters, "parameters", count)
    if config.ratio is None:
        raise ConfigError("set one of prune.ratio, prune.parameters and prune.bytes")
    return Budget(int(config.ratio * student.parameters_count), "parameters", count)


def _costs(ids: SemanticIds) -> tuple[Callable[[StudentConfig], int], Callable[[StudentConfig], int]]:
    """Functions from a student's shape to its parameters, and to the bytes of its weight file."""
    import torch

    from pocketrec.distill.models.student import Student
    from pocketrec.export.weights import weight_bytes

    levels, codes = ids.rows.shape[1], ids.codes
    pairs = np.unique(ids.rows[:, :2], axis=0)  # the only thing that a student takes from the catalogue

    def parameters(shape: StudentConfig) -> int:
        with torch.device("meta"):
            return Student(shape, levels, codes, pairs).parameters_count

    def size(shape: StudentConfig) -> int:
        with torch.random.fork_rng(devices=[]):
            return weight_bytes(Student(shape, levels, codes, pairs))

    return lru_cache(parameters), lru_cache(size)


def _size(student: Student) -> dict[str, Any]:
    from pocketrec.export.weights import weight_bytes

    shape = config_to_dict(student.config)
    return {"parameters": student.parameters_count, "bytes": weight_bytes(student), "shape": shape}


def _note(config: RunConfig, result: Pruned) -> dict[str, Any]:
    curves = {name: {str(units): loss for units, loss in curve.items()} for name, curve in result.curves.items()}
    return {
        "settings": config_to_dict(config.prune),
        "soft_labels": uses_labels(config),
        "valid": {"before": result.valid_before, "after": result.valid_after},
        "loss_by_units_kept": curves,
    }


def _curve(result: Pruned) -> dict[str, Any]:
    """Losses and validations of cutting, followed by those of recovery."""
    losses, validations = list(result.cutting.losses), list(result.cutting.validations)
    if result.recovery is not None:
        step, epoch = result.cutting.step, result.cutting.epoch
        losses += [{**p, "step": p["step"] + step, "epoch": p["epoch"] + epoch} for p in result.recovery.losses]
        validations += [{**v, "epoch": v["epoch"] + epoch} for v in result.recovery.validations]
    return {"losses": losses, "validations": validations}


def _place(path: Path, folder: Path) -> str:
    """Return a path relative to a checkpoint folder that lies inside the path's run, or else absolute."""
    path, folder = path.resolve(), folder.resolve()
    inside = path in folder.parents or path.parent in folder.parents
    return Path(os.path.relpath(path, folder)).as_posix() if inside else str(path)
