"""The teacher: exact packing, sources, prompts, LoRA."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pocketrec.distill.config import TeacherConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.item_model import history_batch
from pocketrec.distill.models.source_table import ItemSources
from pocketrec.distill.models.teacher import Teacher, TeacherRanker
from pocketrec.runtime.errors import ConfigError, DataError
from tiny_teacher import EVERYTHING, HISTORIES, HISTORY, ITEMS, SHAPE, WIDTH, backbone, scores, sources, teacher


@pytest.mark.parametrize("prompt", [0, 3])
@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_packed_rows_score_as_each_history_alone(prompt, tuning):
    model = teacher(prompt, sources=EVERYTHING, tuning=tuning)
    packed = history_batch(HISTORIES, HISTORY)
    assert len(packed.inputs) < len(HISTORIES)
    assert (packed.segment < 0).any()  # there is padding, too
    alone = torch.cat([scores(model, HISTORIES.take(slice(i, i + 1))) for i in range(len(HISTORIES))])
    assert alone.std(0).max() > 0.01
    torch.testing.assert_close(scores(model), alone, atol=1e-5, rtol=1e-5)


def test_a_prompt_changes_what_is_recommended():
    without, with_prompt = teacher(0), teacher(3)
    with_prompt.load_state_dict({**without.state_dict(), "prompt": with_prompt.prompt})
    assert (scores(without) - scores(with_prompt)).abs().max() > 0.01


def test_the_loss_is_the_cross_entropy_of_the_logits():
    model = teacher(2, sources=EVERYTHING)
    (batch,) = next(WindowBatches(HISTORIES, HISTORY, 8, seed=0).epoch(0))
    with torch.no_grad():
        expected = F.cross_entropy(model.item_logits(batch), batch.targets, reduction="sum")
        torch.testing.assert_close(model(batch), expected)


def test_hidden_states_are_one_a_block_and_end_in_the_last():
    model = teacher(2)
    batch = history_batch(HISTORIES, HISTORY)
    with torch.no_grad():
        states = model.hidden_states(batch)
        assert [s.shape for s in states] == [(*batch.inputs.shape, WIDTH)] * SHAPE.num_hidden_layers
        torch.testing.assert_close(states[-1], model.hidden(batch))
        assert (states[0] - states[1]).abs().max() > 0.1


def test_item_tokens_enter_at_the_scale_of_words_and_logits_start_small():
    torch.manual_seed(0)
    generator = np.random.default_rng(1)
    far = ItemSources(text=(5 + 3 * generator.standard_normal((500, 40))).astype(np.float32))
    for chosen in (("text",), ("text", "id")):
        model = Teacher(TeacherConfig(sources=chosen), backbone(), far, 500, HISTORY).eval()
        with torch.no_grad():
            tokens = model.project(model.items())
        assert 0.15 < tokens.std() < 0.25  # words: 0.2
        assert scores(model).std() < 0.3


def test_an_item_with_the_sources_of_another_is_scored_as_that_one():
    chosen = ("text", "collaborative", "sid", "image")
    model, old = teacher(sources=chosen), sources()
    before = scores(model)
    longer = ItemSources(
        *(np.concatenate((a, a[[4]])) for a in (old.text, old.collaborative, old.image, old.sids)), codes=7
    )
    model.extend(longer, ITEMS + 1)
    after = scores(model)
    torch.testing.assert_close(after[:, :ITEMS], before)
    torch.testing.assert_close(after[:, ITEMS], before[:, 4])
    in_history = [scores(model, Sequences.from_lists([[7, row]])) for row in (4, ITEMS)]
    torch.testing.assert_close(*in_history)


def test_new_items_have_the_mean_of_learned_embeddings_and_their_own_text():
    model, old = teacher(sources=("text", "id")), sources()
    with torch.no_grad():
        model.bias.copy_(torch.arange(float(ITEMS)))
    new = np.stack((old.text[4], old.text[9]))
    before = scores(model)
    model.extend(ItemSources(text=np.concatenate((old.text, new))), ITEMS + 2)
    after = scores(model)
    torch.testing.assert_close(after[:, :ITEMS], before)
    assert float(model.bias[ITEMS].detach()) == pytest.approx(9.5)
    assert (after[:, ITEMS] - after[:, ITEMS + 1]).abs().max() > 0.01
    with pytest.raises(DataError, match="fewer"):
        model.extend(sources(), ITEMS)


def test_a_source_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match="'image'"):
        teacher(given=ItemSources(text=sources().text), sources=("text", "image"))
    with pytest.raises(DataError, match="19"):
        teacher(given=ItemSources(text=sources(19).text), sources=("text",))


def test_lora_trains_beside_the_backbone_and_leaves_its_weights_alone():
    model = teacher(2, tuning="lora", sources=EVERYTHING).train()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for (batch,) in WindowBatches(HISTORIES, HISTORY, 2, seed=0).epoch(0):
        optimiser.zero_grad()
        model(batch).backward()
        optimiser.step()
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    inside = {name for name in moved if name.startswith("backbone.")}
    assert len([name for name in inside if "lora_B" in name]) == 7 * SHAPE.num_hidden_layers
    assert all("lora_" in name for name in inside)
    assert {"start", "bias", "head.weight", "project.weight", "items.ids", "items.codes"} <= moved
    state = model.state_dict()
    stem = "backbone.base_model.model.layers.0.mlp.up_proj."
    update = state[stem + "lora_B.default.weight"] @ state[stem + "lora_A.default.weight"]
    merged = model.layers()[0].mlp.up_proj.weight
    torch.testing.assert_close(merged, state[stem + "base_layer.weight"] + 2 * update)


def test_seen_items_are_left_out_of_the_ranking():
    ranked = TeacherRanker(teacher()).rank(HISTORIES, 30, exclude_seen=True)
    assert ranked.shape == (len(HISTORIES), 30)
    assert not {3, 4} & set(ranked[0].tolist())
    assert sorted(ranked[1].tolist()) == [-1] * 10 + list(range(20))
    best = scores(teacher()).argmax(1)
    assert TeacherRanker(teacher()).rank(HISTORIES, 1, exclude_seen=False)[:, 0].tolist() == best.tolist()
