"""Teachers on a Llama of two small blocks with random weights."""

from __future__ import annotations

import numpy as np
import torch
from transformers import LlamaConfig, LlamaModel

from pocketrec.distill.config import TeacherConfig
from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.models.backbone import Backbone, drop_token_table
from pocketrec.distill.models.item_model import history_batch
from pocketrec.distill.models.source_table import ItemSources
from pocketrec.distill.models.teacher import Teacher

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
