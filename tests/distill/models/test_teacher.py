"""The teacher: exact packing, sources, prompts, LoRA; and it learns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from msgspec.structs import replace as replace_fields
from safetensors.numpy import load_file
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaModel

from pocketrec.distill.committee.labelling import FeatureTap
from pocketrec.distill.config import SasrecConfig, TeacherConfig, TrainConfig
from pocketrec.distill.data.batches import WindowBatches
from pocketrec.distill.data.splits import Sequences, leave_one_out
from pocketrec.distill.models.backbone import Backbone, drop_token_table
from pocketrec.distill.models.item_model import history_batch
from pocketrec.distill.models.presets import PRESETS, apply_preset
from pocketrec.distill.models.sasrec import Sasrec
from pocketrec.distill.models.teacher import ItemSources, Teacher, TeacherRanker
from pocketrec.distill.training.teacher_training import load_teacher, train_teacher
from pocketrec.runtime.errors import ConfigError, DataError, TrainingError

ITEMS, HISTORY, WIDTH = 20, 6, 32
SHAPE = LlamaConfig(
    vocab_size=8, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=2,
    num_attention_heads=4, num_key_value_heads=2, initializer_range=0.2,
)  # fmt: skip
EVERYTHING = ("text", "collaborative", "sid", "image", "id")


def sources(n=ITEMS, seed=0):
    generator = np.random.default_rng(seed)
    vectors = [generator.standard_normal((n, d)).astype(np.float32) for d in (12, 8, 5)]
    return ItemSources(*vectors, sids=generator.integers(0, 7, (n, 3)).astype(np.uint8), codes=7)


def backbone(prompt=0):
    body = LlamaModel(SHAPE)
    drop_token_table(body)
    return Backbone(body, 0.2 * torch.randn(prompt, WIDTH), 0.2)


def teacher(prompt=0, given=None, n_items=ITEMS, **settings):
    torch.manual_seed(0)
    config = TeacherConfig(**{"source_dim": 8, "dropout": 0.0, **settings})
    model = Teacher(config, backbone(prompt), given or sources(n_items), n_items, HISTORY)
    with torch.no_grad():
        model.head.weight.mul_(50)  # far enough from zero that scores differ
    return model.eval()


HISTORIES = Sequences.from_lists([[3, 4], [], [5, 6, 7, 8, 9], [1], [2, 2, 2], [11, 12, 13, 14, 15, 16, 17]])


@torch.no_grad()
def scores(model, histories=HISTORIES):
    return model.item_logits(history_batch(histories, HISTORY))


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
    plain, asked = teacher(0), teacher(3)
    asked.load_state_dict({**plain.state_dict(), "prompt": asked.prompt})
    assert (scores(plain) - scores(asked)).abs().max() > 0.01


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


def test_a_tap_gives_the_logits_and_the_states_they_came_from():
    model, batch = teacher(2), history_batch(HISTORIES, HISTORY)
    tap = FeatureTap(model, 2)
    with torch.no_grad():
        torch.testing.assert_close(tap.item_logits(batch), model.item_logits(batch))
        states = [state.flatten(0, 1)[batch.loss_at] for state in model.hidden_states(batch)]
    torch.testing.assert_close(tap.features(batch), torch.stack(states, 1))
    with pytest.raises(TrainingError, match="newest batch"):
        tap.features(history_batch(HISTORIES, HISTORY))


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


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_sets_sources_and_tuning_and_can_be_built(name):
    config = apply_preset(TeacherConfig(preset=name))
    assert (config.sources, config.tuning) == (PRESETS[name].sources, PRESETS[name].tuning)
    assert apply_preset(config) == config
    assert torch.isfinite(scores(teacher(sources=config.sources, tuning=config.tuning))).all()


def test_a_setting_that_a_preset_sets_otherwise_is_refused():
    assert apply_preset(TeacherConfig(sources=("id",))).sources == ("id",)
    with pytest.raises(ConfigError, match=r"'e4srec' sets teacher\.sources"):
        apply_preset(TeacherConfig(preset="e4srec", sources=("id",)))
    with pytest.raises(ConfigError, match=r"teacher\.tuning"):
        apply_preset(TeacherConfig(preset="lc-rec", tuning="lora"))
