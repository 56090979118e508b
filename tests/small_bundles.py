"""Sound bundles of three items, made and spoilt; what must be said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pocketrec.runtime.bundle.bundle import (
    MANIFEST_FILE,
    TRIE_FILE,
    CatalogueSpec,
    Manifest,
    ModelSpec,
    describe_file,
    open_bundle,
    write_manifest,
)
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.errors import BundleError

ROWS = [[0, 1], [0, 2], [3, 0]]
FILES = (TRIE_FILE, "recommender.onnx", "README.md")


def model(**changes: Any) -> ModelSpec:
    sizes = {
        "dim": 8,
        "layers": 1,
        "heads": 2,
        "kv_heads": 1,
        "head_dim": 4,
        "ffn": 16,
        "decoder_dim": 8,
        "pair_dim": 4,
    }
    fields: dict[str, Any] = {
        "kind": "llama-sid",
        "sid_space": "space-1",
        "levels": 2,
        "codes": 4,
        "max_history": 5,
        "beam": 3,
        "max_branch": (3, 3),
        "rope_theta": 10000.0,
        "norm_eps": 1e-6,
        "parameters": 1000,
        **sizes,
    }
    return ModelSpec(**{**fields, **changes})


def trie(sid_space: str = "space-1", first: str = "a") -> ItemTrie:
    return ItemTrie.from_rows(ROWS, [first, "b", "c"], codes_per_level=4, sid_space=sid_space)


def make(folder: Path, *, catalogue: ItemTrie | None = None, **changes: Any) -> Path:
    """Write a sound bundle; `changes` go to the model's spec."""
    folder.mkdir()
    catalogue = catalogue or trie()
    catalogue.save(folder / TRIE_FILE)
    (folder / "recommender.onnx").write_bytes(bytes(range(256)) * 2000)  # more than one read
    (folder / "README.md").write_text("a card")
    spec = model(**changes)
    manifest = Manifest(
        model=spec,
        catalogue=CatalogueSpec(items=len(catalogue), sid_space=spec.sid_space),
        files={name: describe_file(folder / name) for name in FILES},
        graphs={"recommender": "recommender.onnx"},
        provenance={"seed": 0, "stages": [{"name": "data"}]},
        metrics={"recall@10": 0.08},
    )
    write_manifest(folder, manifest)
    return folder


def edit(bundle: Path, change: Any) -> None:
    """Rewrite the manifest by hand, as an attacker or a broken tool would."""
    data = json.loads((bundle / MANIFEST_FILE).read_text())
    change(data)
    (bundle / MANIFEST_FILE).write_text(json.dumps(data))


def refused(bundle: Path, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(bundle).load_trie()
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "it says what to do"
