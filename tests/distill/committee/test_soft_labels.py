"""Soft labels: every position once, from the window that sees the most, whole or absent after a kill."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from file_faults import Killed, fail_at
from pocketrec.distill.committee.soft_labels import SoftLabels, label_windows, write_soft_labels
from pocketrec.distill.config import SoftLabelConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.item_model import history_batch
from pocketrec.runtime.errors import TrainingError

N_ITEMS, HISTORY = 12, 4
CONFIG = SoftLabelConfig(top=3, shard_rows=10)


def histories(seed=0, users=9):
    generator = np.random.default_rng(seed)
    return Sequences.from_lists([generator.integers(0, N_ITEMS, n).tolist() for n in generator.integers(1, 12, users)])


def newest_item_model(batch):
    """Says that the next item is the newest one plus one; the number of items seen shows in the certainty."""
    position = batch.position.flatten()[batch.loss_at]
    newest = batch.inputs.flatten()[batch.loss_at]
    logits = torch.zeros(len(position), N_ITEMS)
    logits[torch.arange(len(position)), torch.where(position > 0, (newest + 1) % N_ITEMS, 0)] = 1.0 + position
    return logits


def test_every_position_gets_the_label_of_its_own_history(tmp_path):
    train = histories()
    write_soft_labels(tmp_path, newest_item_model, train, N_ITEMS, HISTORY, CONFIG)
    labels = SoftLabels(tmp_path, train)
    assert len(labels) == train.lengths.sum()
    for number in range(len(train)):
        history = train[number]
        items, probabilities = labels.at(np.arange(train.starts[number], train.ends[number]))
        assert items[0, 0] == 0
        assert (items[1:, 0] == (history[:-1] + 1) % N_ITEMS).all()
        assert (np.diff(probabilities, axis=1) <= 0).all()


def test_labels_are_those_of_the_training_batches(tmp_path):
    train = histories()
    write_soft_labels(tmp_path, newest_item_model, train, N_ITEMS, HISTORY, CONFIG)
    labels = SoftLabels(tmp_path, train)
    for micro_batches in WindowBatches(train, HISTORY, 4, seed=1).epoch(0):
        for batch in micro_batches:
            assert (train.items[batch.events] == batch.targets.numpy()).all()
            items, _ = labels.at(batch.events.numpy())
            seen = batch.position.flatten()[batch.loss_at] > 0
            newest = batch.inputs.flatten()[batch.loss_at][seen].numpy()
            assert (items[seen.numpy(), 0] == (newest + 1) % N_ITEMS).all()


@settings(max_examples=60)
@given(lengths=st.lists(st.integers(0, 30), min_size=1, max_size=8), size=st.integers(1, 7))
def test_windows_label_each_event_once_with_at_least_half_the_history(lengths, size):
    sequences = Sequences.from_lists([[0] * n for n in lengths])
    begin, end, first = label_windows(sequences, size)
    labelled = [(e, e - b) for b, e0, f in zip(begin, end, first, strict=True) for e in range(f, e0)]
    assert sorted(event for event, _ in labelled) == sequences.event_positions().tolist()
    assert (end - begin <= size + 1).all()
    start = dict(zip(sequences.event_positions().tolist(), np.repeat(sequences.starts, sequences.lengths), strict=True))
    for event, context in labelled:
        assert context >= min(event - start[event], size - max(1, size // 2) + 1)


def test_a_killed_write_resumes_with_the_first_shard_that_is_missing(tmp_path):
    train, calls = histories(), []

    def dies_at_the_third(batch):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return newest_item_model(batch)

    with pytest.raises(KeyboardInterrupt):
        write_soft_labels(tmp_path, dies_at_the_third, train, N_ITEMS, HISTORY, CONFIG)
    with pytest.raises(TrainingError, match="run the soft-labels stage again"):
        SoftLabels(tmp_path, train)
    whole = sorted(p.name for p in tmp_path.glob("labels-*.safetensors"))
    assert len(whole) == 2
    kept = {name: (tmp_path / name).stat().st_mtime_ns for name in whole}
    write_soft_labels(tmp_path, newest_item_model, train, N_ITEMS, HISTORY, CONFIG)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in whole} == kept
    assert len(SoftLabels(tmp_path, train)) == train.lengths.sum()


def test_files_that_a_killed_process_left_unfinished_are_gone_after_the_next_run(tmp_path):
    write_soft_labels(tmp_path / "whole", newest_item_model, histories(), N_ITEMS, HISTORY, CONFIG)
    left = set()
    for number in range(1, 9):
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            fail_at(patch, number, Killed)
            write_soft_labels(tmp_path / "cut", newest_item_model, histories(), N_ITEMS, HISTORY, CONFIG)
        left |= {p.name for p in tmp_path.glob("cut/.*.tmp")}
    assert left
    write_soft_labels(tmp_path / "cut", newest_item_model, histories(), N_ITEMS, HISTORY, CONFIG)
    assert {p.name for p in (tmp_path / "cut").iterdir()} == {p.name for p in (tmp_path / "whole").iterdir()}


def test_two_processes_write_the_same_files_as_one(tmp_path):
    train = histories()
    write_soft_labels(tmp_path / "one", newest_item_model, train, N_ITEMS, HISTORY, CONFIG)
    for rank in (1, 0):
        write_soft_labels(tmp_path / "two", newest_item_model, train, N_ITEMS, HISTORY, CONFIG, shares=(rank, 2))
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_features_lie_beside_the_labels(tmp_path):
    train = histories()

    def features(batch):
        return batch.events[:, None, None].expand(-1, 2, 5)

    write_soft_labels(tmp_path, newest_item_model, train, N_ITEMS, HISTORY, CONFIG, features=features)
    events = train.event_positions()[::3]
    found = SoftLabels(tmp_path, train).features_at(events)
    assert found.shape == (len(events), 2, 5)
    assert (found == events[:, None, None]).all()


def test_labels_of_other_histories_are_refused(tmp_path):
    write_soft_labels(tmp_path, newest_item_model, histories(), N_ITEMS, HISTORY, CONFIG)
    with pytest.raises(TrainingError, match="these histories have"):
        SoftLabels(tmp_path, histories(seed=5))
    labels = SoftLabels(tmp_path, histories())
    with pytest.raises(TrainingError, match="hold no features"):
        labels.features_at(np.array([0]))


def test_a_damaged_shard_is_refused(tmp_path):
    write_soft_labels(tmp_path, newest_item_model, histories(), N_ITEMS, HISTORY, CONFIG)
    path = tmp_path / "labels-00001.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(TrainingError, match="cut short"):
        SoftLabels(tmp_path, histories())


def test_a_history_batch_has_the_position_after_the_newest_item():
    sequences = Sequences.from_lists([[3, 1, 2, 5, 6, 7], [], [4]])
    batch = history_batch(sequences, HISTORY)
    position = batch.position.flatten()[batch.loss_at].tolist()
    assert position == [4, 0, 1]
    at = batch.loss_at[0]
    assert batch.inputs.flatten()[at - 3 : at + 1].tolist() == [2, 5, 6, 7]
    assert batch.events.tolist() == [-1, -1, -1]
