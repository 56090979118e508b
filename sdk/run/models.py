"""The models of a run that stages pass on to each other: trained teachers, the committee's members, crowd and words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.distill.data.splits import Sequences
    from pocketrec.distill.models.item_model import ItemModel
    from pocketrec.distill.models.sasrec import Sasrec
    from pocketrec.distill.models.teacher import Teacher
    from pocketrec.run.run import Run
    from pocketrec.runtime.experts.crowd import Crowd
    from pocketrec.runtime.experts.words import Words

logger = logging.getLogger(__name__)

NO_TEXTS = "the catalogue has no texts"


def load_run_sasrec(run: Run) -> Sasrec:
    """Read the SASRec of the stage `sasrec`."""
    from pocketrec.distill.training.sasrec_training import load_sasrec

    return load_sasrec(run.folder / "sasrec", run.config.sasrec, run.n_items, run.config.evaluation.max_history)


def load_run_teacher(run: Run) -> Teacher:
    """Read the teacher LLM of the stage `teacher`."""
    from pocketrec.distill.training.teacher_training import load_teacher

    return load_teacher(run.folder / "teacher", run.config.teacher, run.teacher_sources, run.n_items)


def crowd_of(run: Run, train: Sequences) -> Crowd:
    """Build the device's graph from histories, with the run's settings."""
    from pocketrec.distill.experts.crowd import build_crowd

    return build_crowd(train, run.n_items, run.config.experts.neighbours, run.config.experts.min_users)


def words_of(run: Run) -> Words | None:
    """Build the device's word index; None if the catalogue has no texts."""
    from pocketrec.distill.experts.words import build_words

    texts = run.catalogue.texts
    return build_words(texts, run.config.experts.terms) if any(texts) else None


def committee_members(run: Run) -> tuple[dict[str, ItemModel], dict[str, str]]:
    """Return the members that `soft_labels.members` names, and why one of them is left out, by name.

    :raises ConfigError: if none is left.
    """
    from pocketrec.distill.committee.labelling import labelled
    from pocketrec.distill.committee.members import WordsMember, cross_fitted_graph
    from pocketrec.distill.training.sasrec_training import cross_fitted_sasrec

    config, split = run.config, run.split
    settings, copies = config.soft_labels, labelled(split.train, config.soft_labels)
    out: dict[str, ItemModel] = {}
    left_out: dict[str, str] = {}
    for name in settings.members:
        if name == "llm":
            out[name] = load_run_teacher(run)
        elif name == "sasrec":
            folder, folds = run.folder / "sasrec-folds", settings.sasrec_folds
            out[name] = cross_fitted_sasrec(load_run_sasrec(run), folder, split, config.sasrec, folds, copies)
        elif name == "graph":
            out[name] = cross_fitted_graph(split.train, run.n_items, settings.folds, labelled=copies)
        elif (words := words_of(run)) is not None:
            out[name] = WordsMember(words)
        else:
            left_out[name] = NO_TEXTS
            logger.warning("the committee leaves out %s: %s", name, NO_TEXTS)
    if not out:
        raise ConfigError(f"the committee has no members ({NO_TEXTS}); name others in soft_labels.members")
    return out, left_out


def companions_of(run: Run) -> dict[str, ItemModel]:
    """Return crowd and words as on the device; a user's labels come from a crowd without that user's fold."""
    from pocketrec.distill.committee.labelling import labelled
    from pocketrec.distill.committee.members import GraphMember, WordsMember, cross_fitted_graph

    settings, train = run.config.soft_labels, run.split.train
    crowd = cross_fitted_graph(
        train, run.n_items, settings.folds, labelled=labelled(train, settings),
        fit=lambda histories, _: GraphMember.of_crowd(crowd_of(run, histories)),
    )  # fmt: skip
    words = words_of(run)
    return {"crowd": crowd} if words is None else {"crowd": crowd, "words": WordsMember(words)}
