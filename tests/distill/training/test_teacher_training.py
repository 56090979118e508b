"""Training a teacher: it learns, resumes, and is read back as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from msgspec.structs import replace as replace_fields
from safetensors.numpy import load_file
from transformers import LlamaModel

from pocketrec.distill.config import SasrecConfig, TeacherConfig, TrainConfig
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.models.sasrec import Sasrec
from pocketrec.distill.models.source_table import ItemSources
from pocketrec.distill.models.teacher import TeacherRanker
from pocketrec.distill.training.teacher_training import load_teacher, train_teacher
from pocketrec.runtime.errors import ConfigError
from tiny_teacher import HISTORY, ITEMS, SHAPE, scores, sources


def ring():
    """Each user walks round a ring of items: the next one is certain."""
    starts = np.random.default_rng(0).integers(0, ITEMS, 40)
    return leave_one_out(Sequences.from_lists([(np.arange(s, s + 8) % ITEMS).tolist() for s in starts]))


TRAIN = TrainConfig(
    epochs=12, batch_size=8, learning_rate=0.01, validate_every=4, patience=9, cpu=True, record_every=1
)  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(3)
    LlamaModel(SHAPE).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_it_learns_a_ring_of_items_and_is_read_back_as_it_was(folder, tmp_path, tuning):
    config = TeacherConfig(
        backbone=str(folder), layers=2, source_dim=16, dropout=0.1, tuning=tuning, lora_rank=4, train=TRAIN
    )
    given = ItemSources(text=sources().text)
    model, state = train_teacher(ring(), given, ITEMS, config, HISTORY, tmp_path / "run")
    assert state.best_score > 0.9  # ndcg@10
    ranked = TeacherRanker(model).rank(Sequences.from_lists([[3, 4, 5], [18, 19]]), 3, exclude_seen=True)
    assert ranked[:, 0].tolist() == [6, 0]
    longer = ItemSources(text=np.concatenate((given.text, given.text[:2])))
    read = load_teacher(tmp_path / "run", config, longer, ITEMS + 2)
    assert read.n_items == ITEMS + 2
    torch.testing.assert_close(scores(read)[:, :ITEMS], scores(model))
    # A run that goes on from its checkpoint needs the language model no more.
    for file in folder.iterdir():
        file.unlink()
    again, resumed = train_teacher(ring(), given, ITEMS, config, HISTORY, tmp_path / "run")
    assert resumed.losses == state.losses
    torch.testing.assert_close(scores(again), scores(model))


@pytest.mark.parametrize("by", ["influence", "random"])
def test_it_learns_from_the_chosen_share_and_chooses_once(folder, tmp_path, by):
    settings = replace_fields(TRAIN, epochs=1, checkpoint_steps=1)
    config = TeacherConfig(backbone=str(folder), layers=1, source_dim=8, select=0.5, select_by=by, train=settings)
    split, given = ring(), ItemSources(text=sources().text)
    surrogate = Sasrec(SasrecConfig(dim=8, heads=1), ITEMS, HISTORY).eval()
    train_teacher(split, given, ITEMS, config, HISTORY, tmp_path / "run", surrogate=surrogate)
    chosen = load_file(tmp_path / "run" / "selected.safetensors")
    assert len(chosen["starts"]) == round(0.5 * len(split.train))
    assert set(chosen["starts"].tolist()) <= set(split.train.starts.tolist())
    train_teacher(split, given, ITEMS, config, HISTORY, tmp_path / "run")  # goes on without scoring again
    if by == "influence":
        with pytest.raises(ConfigError, match="needs SASRec"):
            train_teacher(split, given, ITEMS, config, HISTORY, tmp_path / "other")
