"""The words of the last items as a member, and the device's graph as one: their formulas by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experts import random_crowd, random_words
from pocketrec.distill.committee.members import SHARPNESS, GraphMember, WordsMember
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.experts.words import build_words
from pocketrec.distill.models.item_model import history_batch
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.weights import FusionWeights

N = 40
HISTORIES = [[], [3], [5, 1, 9, 30, 2, 7, 8, 11], [4, 4, 4]]


@pytest.mark.parametrize("history", HISTORIES)
def test_words_score_as_on_the_device(history):
    words = random_words(N, 3)
    logits = WordsMember(words).item_logits(history_batch(Sequences.from_lists([history]), 20))[0].numpy()
    expected = np.zeros(N)
    reached, cosines = words.reached(np.array(history[-3:], np.int32), 0.5)
    expected[reached] = SHARPNESS * cosines
    np.testing.assert_allclose(logits, expected, atol=1e-4)


def test_words_name_the_items_that_are_called_alike():
    texts = ["red shampoo", "blue shampoo", "red brush", "nail polish", ""]
    member = WordsMember(build_words(texts))
    logits = member.item_logits(history_batch(Sequences.from_lists([[0], [4]]), 20))
    assert logits[0].argsort(descending=True)[0] == 0
    assert set(logits[0].argsort(descending=True)[1:3].tolist()) == {1, 2}
    assert (logits[1] == 0).all()


@pytest.mark.parametrize("history", HISTORIES)
def test_the_devices_crowd_ranks_as_on_the_device(history):
    crowd = random_crowd(N, 3)
    logits = GraphMember.of_crowd(crowd).item_logits(history_batch(Sequences.from_lists([history]), 20))[0]
    experts = Experts(crowd, None, FusionWeights(crowd=1.0), N)
    expected = np.log(0.1) + crowd.log_popularity
    reached, gain = experts.gains(np.array(history, np.int32))
    expected[reached] += gain
    expected = torch.tensor(expected, dtype=torch.float32).log_softmax(0)
    torch.testing.assert_close(logits.log_softmax(0), expected, atol=1e-3, rtol=0)
