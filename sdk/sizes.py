"""Sizes that are known before anything is trained: a student's parameters, and the bytes of a bundle's parts.

Pure functions of a configuration and of what the stage `data` found. `pocketrec.recipe` chooses settings by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from pocketrec.distill.config import ExpertsConfig, RunConfig, SidConfig, StudentConfig

BYTES = {"none": 4.0, "fp16": 2.0, "int8": 1.0, "int4": 0.57}  # a weight, by export.quantize
SCALES = 0.045  # share of an int8 model that scales and norms add
GRAPHS = 70_000  # the ONNX files
CARD = 12_000  # manifest and model card
WORD_BYTES = 5  # of an average word, with its space


@dataclass(frozen=True)
class DataFacts:
    """The data's size, after cleaning.

    text_bytes: of all items' texts, UTF-8; 0: no texts. name_bytes: of all ids and titles. repeats: share of the
    events whose item the user had before.
    """

    users: int
    items: int
    events: int
    text_bytes: int = 0
    name_bytes: int = 0
    repeats: float = 0.0

    @property
    def positions(self) -> int:
        """Training positions, when the last two events of every user are held out."""
        return max(1, self.events - 2 * self.users)


def pair_rows(items: int, codes: int) -> int:
    """Return about how many pairs of first two codes the items have; clustered items share more than random ones."""
    cells = codes**2
    return round(0.85 * cells * -math.expm1(-items / cells))


def student_parameters(shape: StudentConfig, sid: SidConfig, items: int) -> int:
    """Return the parameters of a student; exact except for the rows of the pair table (`pair_rows`)."""
    pairs = (pair_rows(items, sid.codes) + 1) * shape.pair_dim + 2 * shape.pair_dim * shape.dim
    return dense_parameters(shape, sid) + sid.levels * sid.codes * shape.dim + pairs


def dense_parameters(shape: StudentConfig, sid: SidConfig) -> int:
    """Return the parameters that every position is multiplied with: all but the embeddings of codes and pairs."""
    dim, head = shape.dim, shape.head_width
    attention = 2 * dim * head * (shape.heads + shape.kv_heads)
    block = attention + 3 * dim * shape.ffn + 2 * dim
    decoder = sid.levels * (dim + 1) * shape.decoder_dim + (sid.levels - 1) * dim * shape.decoder_dim
    return shape.blocks * block + 2 * dim + decoder + sid.levels * (shape.decoder_dim + 1) * sid.codes


def bundle_parts(config: RunConfig, facts: DataFacts) -> dict[str, int]:
    """Return the expected bytes of an ONNX bundle by part, each at most a few percent too small."""
    sid, weight = config.sid, BYTES[config.export.quantize]
    parameters = student_parameters(config.student, sid, facts.items)
    code_bytes = 1 if sid.codes <= 256 else 2
    names = facts.name_bytes if config.export.titles else facts.name_bytes // 4
    return {
        "student": round(parameters * (weight + SCALES)),
        "ids and titles of the items": facts.items * (sid.levels * code_bytes + 4) + names,
        **_experts(config.experts, facts),
        "graphs and manifest": GRAPHS + CARD,
    }


def _experts(experts: ExpertsConfig, facts: DataFacts) -> Mapping[str, int]:
    if not experts.enabled:
        return {}
    row = 2 if facts.items <= 1 << 16 else 4
    parts = {"crowd": facts.items * (experts.neighbours * (row + 1) + 6)}
    if facts.text_bytes:
        words = facts.text_bytes / WORD_BYTES
        kept = min(experts.terms, words / facts.items)
        vocabulary = 14 * math.sqrt(words)  # of words that items share; Heaps' law with constants of two data sets
        parts["words"] = round(facts.items * (1 + kept * (2 if vocabulary < 1 << 16 else 4)) + 4 * vocabulary)
    return parts
