"""The student is what its page says: Llama blocks, item tokens, a decoder along the SID."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pocketrec.distill.config import StudentConfig
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.student import Student
from pocketrec.runtime.errors import ConfigError
from tiny import CODES, LEVELS, brute_force, random_rows, tiny_student


@pytest.mark.parametrize(
    "shape",
    [{}, {"heads": 4, "kv_heads": 2}, {"heads": 4, "kv_heads": 1, "head_dim": 6}],
    ids=["plain", "grouped", "narrow heads"],
)
def test_the_backbone_gives_what_transformers_llama_gives_with_the_same_weights(shape):
    from transformers import LlamaConfig, LlamaModel

    student = tiny_student(**shape)
    config = student.config
    llama = LlamaModel(
        LlamaConfig(
            vocab_size=2, hidden_size=config.dim, intermediate_size=config.ffn, num_hidden_layers=config.layers,
            num_attention_heads=config.heads, num_key_value_heads=config.kv_heads, rms_norm_eps=1e-5,
            max_position_embeddings=64, rope_theta=config.rope_theta, head_dim=config.head_width,
        )
    ).eval()  # fmt: skip
    missing, unexpected = llama.load_state_dict(student.backbone.state_dict(), strict=False)
    assert (missing, unexpected) == (["embed_tokens.weight"], [])
    x = torch.randn(2, 9, config.dim)
    with torch.no_grad():
        expected = llama(inputs_embeds=x, use_cache=False).last_hidden_state
        np.testing.assert_allclose(student.backbone(x), expected, atol=1e-4)


def test_shared_layers_are_one_block_used_again_and_again_and_counted_once():
    shared, apart = tiny_student(layers=3, share_layers=True), tiny_student(layers=3)
    assert len(shared.backbone.layers) == 1
    block = sum(p.numel() for p in shared.backbone.layers.parameters())
    assert apart.parameters_count - shared.parameters_count == 2 * block
    weights = shared.state_dict()
    own = {n: weights[n.replace("layers.1", "layers.0").replace("layers.2", "layers.0")] for n in apart.state_dict()}
    apart.load_state_dict(own)
    tokens = torch.from_numpy(random_rows(5).astype(np.int64))[None]
    with torch.no_grad():
        assert torch.equal(shared(tokens), apart(tokens))
        assert len(shared.states(tokens)) == 3


def test_probabilities_of_all_sids_sum_to_one():
    student = tiny_student()
    every = np.stack(np.unravel_index(np.arange(CODES**LEVELS), (CODES,) * LEVELS), 1).astype(np.uint8)
    log_p = brute_force(student, random_rows(4).astype(np.int64), every)
    assert np.exp(log_p.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-4)


def test_the_future_does_not_change_the_past():
    student = tiny_student()
    tokens = torch.from_numpy(random_rows(7).astype(np.int64))[None]
    changed = tokens.clone()
    changed[0, -1] = (changed[0, -1] + 1) % CODES
    with torch.no_grad():
        assert torch.equal(student(tokens)[0, :-1], student(changed)[0, :-1])
        assert not torch.equal(student(tokens)[0, -1], student(changed)[0, -1])


def test_packed_rows_give_each_history_what_it_gets_alone():
    from pocketrec.distill.data.batches import WindowBatches

    student, rows = tiny_student(), random_rows(20)
    train = Sequences.from_lists([[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]])
    sids = torch.from_numpy(rows.astype(np.int64))
    (batch,), *_ = WindowBatches(train, 6, 8, seed=0).epoch(0)
    with torch.no_grad():
        packed = student(sids[batch.inputs], batch.is_start, batch.mask)
        for row, column in zip(*np.nonzero(batch.is_start.numpy()), strict=True):
            segment = batch.segment[row]
            own = (segment == segment[column]).nonzero()[:, 0]
            alone = student(sids[batch.inputs[row, own]][None])
            np.testing.assert_allclose(packed[row, own], alone[0], atol=1e-5)


def test_code_embeddings_begin_as_far_apart_as_their_centroids():
    centroids = np.random.default_rng(0).normal(size=(LEVELS, CODES, 6)).astype(np.float32)
    student = Student(StudentConfig(dim=16, heads=2, kv_heads=2), LEVELS, CODES)
    student.start_from(centroids)
    for table, level in zip(student.embed, centroids, strict=True):
        ours, theirs = table.weight.detach(), torch.from_numpy(level)
        np.testing.assert_allclose(torch.cdist(ours, ours), torch.cdist(theirs, theirs), atol=1e-4)


@pytest.mark.parametrize(
    "shape", [{"dim": 30, "heads": 4}, {"dim": 12, "heads": 4}, {"heads": 4, "kv_heads": 3}, {"head_dim": 5}]
)
def test_widths_that_do_not_divide_are_refused(shape):
    with pytest.raises(ConfigError, match=r"student\.dim"):
        Student(StudentConfig(**{"dim": 16, "heads": 2, "kv_heads": 2, **shape}), LEVELS, CODES)
