"""The manifest of a bundle: what the model is, which files belong to it, where it comes from.

`parse_manifest` turns untrusted bytes into a checked `Manifest`: every field has the right type and a sane value, or a
BundleError names the field. Unknown fields are ignored, so that later versions can add some; a change of meaning raises
the schema version, and another schema version is refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pocketrec.runtime.bundle.fields import MANIFEST_FILE, MAX_TEXT, REMEDY, Fields
from pocketrec.runtime.catalogue.trie_file import MAX_CODES, MAX_FILE_BYTES, MAX_LEVELS
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.experts.weights import OPTIONAL, FusionWeights
from pocketrec.runtime.files.names import is_file_name, is_sha256
from pocketrec.runtime.files.strict_json import parse_json

SCHEMA_VERSION: Final = 2  # 2: Llama blocks have one layout of weights, whatever the kind of model
MODEL_KIND: Final = "llama-sid"  # our student: a token per item, a decoder of semantic IDs
TOKENS_KIND: Final = "llama-tokens"  # a converted causal Llama: a token per code, no decoder of its own
TRIE_FILE: Final = "trie.safetensors"
WEIGHTS_FILE: Final = "model.safetensors"  # of ONNX bundles; GGUF bundles have two files of their own
COLD_FILE: Final = "cold_items.safetensors"  # optional: which items the cold ones resemble
GRAPH_FILE: Final = "graph.safetensors"  # optional: the crowd's transitions and popularity
WORDS_FILE: Final = "words.safetensors"  # optional: an index of the items' words
REFRESHED_FILES: Final = (TRIE_FILE, COLD_FILE, GRAPH_FILE, WORDS_FILE)  # a refresh changes these, not the model
MAX_MANIFEST_BYTES: Final = 1 << 20
MAX_FILES: Final = 64
MAX_WIDTH: Final = 1 << 18
MAX_LAYERS: Final = 1 << 10
MAX_HEADS: Final = 1 << 10
MAX_HISTORY: Final = 1 << 16
MAX_BEAM: Final = 1 << 14  # the search allocates room for as many prefixes, whatever the catalogue
MAX_PAIR_CODES: Final = 1 << 12  # a pair table has an entry for each pair of codes


@dataclass(frozen=True)
class ModelSpec:
    """Shape of the model and of its search; every size is a number of elements unless its comment says otherwise."""

    kind: str
    sid_space: str  # hash of the codebooks
    levels: int  # codes in a semantic ID, L
    codes: int  # codes per level, K
    max_history: int  # items
    beam: int  # prefixes that the search keeps, unless the caller needs more items
    max_branch: tuple[int, ...]  # [L]: children of a node that the graph has room for, at each depth
    dim: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    decoder_dim: int
    pair_dim: int  # width of the table of pairs of first and second codes; 0: no table
    rope_theta: float
    norm_eps: float
    parameters: int
    quantization: str = "none"  # how the weights are stored
    vocab: int = 0  # tokens of a "llama-tokens" model, V; 0 for the student
    prompt: int = 0  # tokens that such a model reads before the history
    blocks: int = 0  # blocks with their own weights; layer i uses block i % blocks; 0: one per layer

    def block(self, layer: int) -> int:
        """Return the block whose weights a layer uses."""
        return layer % (self.blocks or self.layers)


@dataclass(frozen=True)
class CatalogueSpec:
    """The catalogue that the bundle's trie holds."""

    items: int
    sid_space: str


@dataclass(frozen=True)
class FileEntry:
    """What a file must be: its SHA-256 (64 lower-case hex digits) and its size in bytes."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """A bundle's table of contents. `provenance`, `metrics` and the rows of `gates` are free JSON objects.

    metrics: measured with these very files on the test set. gates: comparison with other exports of the same model.
    """

    model: ModelSpec
    catalogue: CatalogueSpec
    files: Mapping[str, FileEntry]  # by file name
    graphs: Mapping[str, str]  # role -> file name
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    gates: Sequence[Mapping[str, Any]] = ()
    fusion: FusionWeights | None = None  # how crowd and words are joined with the model; None: the model alone
    schema_version: int = SCHEMA_VERSION

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain dictionaries and lists, ready for JSON."""
        model = {**dataclasses.asdict(self.model), "max_branch": list(self.model.max_branch)}
        if self.model.kind != TOKENS_KIND:
            del model["vocab"], model["prompt"]
        return {
            "schema_version": self.schema_version,
            "model": model,
            "catalogue": dataclasses.asdict(self.catalogue),
            "files": {name: dataclasses.asdict(entry) for name, entry in self.files.items()},
            "graphs": dict(self.graphs),
            "provenance": dict(self.provenance),
            "metrics": dict(self.metrics),
            "gates": [dict(row) for row in self.gates],
            **({"fusion": dataclasses.asdict(self.fusion)} if self.fusion else {}),
        }

    def to_json(self) -> bytes:
        """Return the manifest as a file's content: equal manifests give equal bytes.

        :raises BundleError: if it would be refused when read (a NaN among the metrics, for instance).
        """
        try:
            text = json.dumps(self.to_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            raise BundleError(
                f"the manifest does not fit JSON ({error}); use strings, finite numbers, lists"
            ) from error
        content = text.encode()
        parse_manifest(content)
        return content


def parse_manifest(content: bytes) -> Manifest:
    """Check the content of a manifest.json and return it typed.

    :raises BundleError: on a missing, wrong or insane field; the message names it.
    """
    if len(content) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{MANIFEST_FILE} is over the limit of {MAX_MANIFEST_BYTES} bytes; {REMEDY}")
    try:
        data = parse_json(content)
    except ValueError as error:
        raise BundleError(f"{MANIFEST_FILE} is not valid JSON ({error}); {REMEDY}") from error
    top = Fields(data, "")
    version = top.integer("schema_version", 1)
    if version != SCHEMA_VERSION:
        remedy = "export the bundle again" if version < SCHEMA_VERSION else "update pocketrec"
        raise BundleError(
            f"{MANIFEST_FILE} has schema_version {version}, and this pocketrec reads {SCHEMA_VERSION}; {remedy}"
        )
    files = _parse_files(top.fields("files"))
    graphs = top.fields("graphs")
    manifest = Manifest(
        model=_parse_model(top.fields("model")),
        catalogue=_parse_catalogue(top.fields("catalogue")),
        files=files,
        graphs={role: graphs.text(role) for role in graphs.data},
        provenance=top.fields("provenance").data,
        metrics=top.fields("metrics").data,
        gates=top.objects("gates") if "gates" in top.data else (),
        fusion=_parse_fusion(top.fields("fusion")) if "fusion" in top.data else None,
        schema_version=version,
    )
    for what, name in {
        "the trie": TRIE_FILE,
        **{f"graph {r!r}": n for r, n in manifest.graphs.items()},
        **({"the crowd": GRAPH_FILE} if manifest.fusion and manifest.fusion.crowd else {}),
        **({"the words": WORDS_FILE} if manifest.fusion and manifest.fusion.words else {}),
    }.items():
        if name not in files:
            raise BundleError(f"{MANIFEST_FILE} does not list {name!r} ({what}) among its files; {REMEDY}")
    if manifest.catalogue.sid_space != manifest.model.sid_space:
        raise BundleError(
            f"{MANIFEST_FILE}: the catalogue's sid_space {manifest.catalogue.sid_space!r} is not the model's "
            f"{manifest.model.sid_space!r}; re-export or re-publish both from the same codebooks"
        )
    return manifest


def _parse_files(fields: Fields) -> dict[str, FileEntry]:
    if len(fields.data) > MAX_FILES:
        raise BundleError(f"{MANIFEST_FILE} lists {len(fields.data)} files, over the limit of {MAX_FILES}; {REMEDY}")
    files = {}
    for name in fields.data:
        if not is_file_name(name) or name.lower() == MANIFEST_FILE:
            raise BundleError(
                f"{MANIFEST_FILE} lists a file {name[:MAX_TEXT]!r}, which is not a plain file name; {REMEDY}"
            )
        entry = fields.fields(name)
        digest = entry.text("sha256")
        if not is_sha256(digest):
            entry.refuse("sha256", "64 lower-case hex digits")
        files[name] = FileEntry(digest, entry.integer("bytes", 0, MAX_FILE_BYTES))
    return files


def _parse_fusion(fields: Fields) -> FusionWeights:
    given = {}
    for name in (field.name for field in dataclasses.fields(FusionWeights)):
        if name in fields.data:
            given[name] = fields.data[name]
        elif name not in OPTIONAL:
            fields.refuse(name, "a number")
    weights = FusionWeights(**given)
    if wrong := weights.fault():
        raise BundleError(f"{MANIFEST_FILE}: in fusion, {wrong}; {REMEDY}")
    return weights


def _parse_catalogue(fields: Fields) -> CatalogueSpec:
    return CatalogueSpec(items=fields.integer("items", 0), sid_space=fields.text("sid_space"))


def _parse_model(fields: Fields) -> ModelSpec:
    kind = fields.text("kind")
    if kind not in (MODEL_KIND, TOKENS_KIND):
        raise BundleError(
            f"the model is of kind {kind!r}, and this pocketrec runs {MODEL_KIND!r} and {TOKENS_KIND!r}; "
            "update pocketrec"
        )
    tokens = kind == TOKENS_KIND
    levels = fields.integer("levels", 1, MAX_LEVELS)
    codes = fields.integer("codes", 1, MAX_CODES)
    limits = {
        "max_history": MAX_HISTORY, "beam": MAX_BEAM, "dim": MAX_WIDTH, "layers": MAX_LAYERS, "heads": MAX_HEADS,
        "kv_heads": MAX_HEADS, "head_dim": MAX_WIDTH, "ffn": MAX_WIDTH,
    }  # fmt: skip
    widest_pair = 0 if tokens or codes > MAX_PAIR_CODES else MAX_WIDTH
    spec = ModelSpec(
        kind=kind,
        sid_space=fields.text("sid_space"),
        levels=levels,
        codes=codes,
        max_branch=fields.integers("max_branch", levels, 1, codes),
        rope_theta=fields.number("rope_theta"),
        norm_eps=fields.number("norm_eps"),
        parameters=fields.integer("parameters", 1, 1 << 40),
        decoder_dim=fields.integer("decoder_dim", 0, 0) if tokens else fields.integer("decoder_dim", 1, MAX_WIDTH),
        pair_dim=fields.integer("pair_dim", 0, widest_pair),
        vocab=fields.integer("vocab", 1) if tokens else 0,
        prompt=fields.integer("prompt", 0, MAX_HISTORY) if tokens else 0,
        quantization=fields.text("quantization") if "quantization" in fields.data else "none",
        blocks=fields.integer("blocks", 0, MAX_LAYERS) if "blocks" in fields.data else 0,
        **{name: fields.integer(name, 1, limit) for name, limit in limits.items()},
    )
    if spec.heads % spec.kv_heads:
        fields.refuse("kv_heads", f"a divisor of heads, {spec.heads},")
    if spec.head_dim % 2:
        fields.refuse("head_dim", "an even number")
    if spec.blocks > spec.layers:
        fields.refuse("blocks", f"at most the number of layers, {spec.layers},")
    return spec
