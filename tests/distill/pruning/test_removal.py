"""Removal gives the outputs of the student whose masks are 0 for the removed units."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketrec.distill.pruning.masks import mask_sites, masked_weights, open_masks
from pocketrec.distill.pruning.removal import at_depth, remove
from pocketrec.runtime.errors import ConfigError
from prunable import SHAPES, assert_same, outputs
from tiny import tiny_student


def some_kept(student, seed):
    """Random units, as many in every row."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for name, mask in open_masks(student).items():
        count = int(torch.randint(1, mask.shape[1] + 1, (), generator=generator))
        if name == "dim":
            count = max(4, count // 4 * 4)  # widths must divide into heads
        kept[name] = torch.stack([torch.randperm(mask.shape[1], generator=generator) < count for _ in mask])
    if "heads" in kept:  # 1, 2 or 4 groups
        groups = kept["heads"].shape[1]
        count = int(2 ** torch.randint(0, groups.bit_length(), (), generator=generator))
        kept["heads"] = torch.stack([torch.randperm(groups, generator=generator) < count for _ in kept["heads"]])
    return kept


def masked(student, masks):
    """The student with masks multiplied in, by the definition."""
    weights = dict(student.named_parameters())
    other = copy.deepcopy(student)
    with torch.no_grad():
        for name, weight in masked_weights(weights, masks, mask_sites(student)).items():
            dict(other.named_parameters())[name].copy_(weight)
    return other


@settings(max_examples=25)
@given(shape=st.sampled_from(sorted(SHAPES)), seed=st.integers(0, 10_000))
def test_removal_leaves_what_masks_of_zero_leave(shape, seed):
    student = tiny_student(**SHAPES[shape]).double()
    kept = some_kept(student, seed)
    closed = masked(student, {name: keep.float() for name, keep in kept.items()})
    removed = remove(student, kept)
    stay = kept["dim"][0]
    theirs = outputs(closed)
    layers = kept["layers"][0].tolist() if "layers" in kept else [True] * student.config.layers
    states = [state[..., stay] for state, keep in zip(theirs, layers, strict=False) if keep]
    assert_same(outputs(removed), [*states, *theirs[len(layers) :]])
    assert removed.parameters_count < student.parameters_count or all(bool(k.all()) for k in kept.values())


@pytest.mark.parametrize("shape", [{"layers": 3}, {"layers": 3, "share_layers": True}], ids=["plain", "shared"])
def test_the_first_layers_have_the_outputs_of_the_whole_student_there(shape):
    student = tiny_student(**shape)
    whole = outputs(student)
    for depth in (1, 2):
        shallow = at_depth(student, depth)
        assert shallow.config.layers == depth
        assert_same(outputs(shallow)[:depth], whole[:depth])
    for depth in (0, 4):
        with pytest.raises(ConfigError, match=r"export\.depth"):
            at_depth(student, depth)
