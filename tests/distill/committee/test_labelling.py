"""Labelling: one forward pass gives labels and features."""

from __future__ import annotations

import pytest
import torch

from pocketrec.distill.committee.labelling import FeatureTap
from pocketrec.distill.models.item_model import history_batch
from pocketrec.runtime.errors import TrainingError
from tiny_teacher import HISTORIES, HISTORY, teacher


def test_a_tap_gives_the_logits_and_the_states_they_came_from():
    model, batch = teacher(2), history_batch(HISTORIES, HISTORY)
    tap = FeatureTap(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(tap.item_logits(batch), model.item_logits(batch))
        states = [state.flatten(0, 1)[batch.loss_at] for state in model.hidden_states(batch)]
    torch.testing.assert_close(tap.features(batch), torch.stack(states, 1))
    with pytest.raises(TrainingError, match="last batch"):
        tap.features(history_batch(HISTORIES, HISTORY))
