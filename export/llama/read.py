"""Reads a `LlamaForCausalLM` directory as transformers saves it: config.json and safetensors, no model code.

Any part of the architecture that this module does not know is refused rather than ignored, so that the bundle computes
what transformers computes. Weights are returned as float32, also where the file stores half precision.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pocketrec.runtime.errors import ConfigError

Array = NDArray[np.float32]

CONFIG, SINGLE_FILE, SHARD_INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
_IGNORED = "rotary_emb.inv_freq"  # a buffer that old versions saved; it follows from the config


@dataclass(frozen=True)
class LlamaShape:
    """The model's shape by config.json, with transformers' defaults filled in."""

    vocab: int
    dim: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    norm_eps: float
    positions: int  # tokens that the model was made for
    tied: bool  # the head is the embedding
    attention_bias: bool
    mlp_bias: bool
    rope_theta: float
    rope_scaling: dict[str, Any]  # {"rope_type": "default" | "linear" | "llama3", ...}
    bos: int | None


@dataclass(frozen=True)
class Llama:
    """A causal Llama: its shape and its tensors by their names in transformers, without the leading `model.`."""

    shape: LlamaShape
    tensors: dict[str, Array]

    @property
    def embedding(self) -> Array:
        """Token embeddings, [V, D]."""
        return self.tensors["embed_tokens.weight"]

    @property
    def head(self) -> Array:
        """Output rows, [V, D]; the embedding itself where they are tied."""
        return self.embedding if self.shape.tied else self.tensors["lm_head.weight"]

    @property
    def parameters(self) -> int:
        """Number of values in all tensors; tied tensors count once."""
        return sum(tensor.size for tensor in self.tensors.values())


def read_llama(directory: Path) -> Llama:
    """Read a model directory.

    :param directory: holds config.json and model.safetensors, or its shards with their index.
    :raises ConfigError: if there is no model, it is not a Llama, or it has a part that this module does not know.
    """
    shape = read_shape(directory)
    stored = _read_tensors(directory)
    wanted = _expected(shape)
    tensors = {name.removeprefix("model."): t for name, t in stored.items() if not name.endswith(_IGNORED)}
    if shape.tied:
        tensors.pop("lm_head.weight", None)
    if missing := sorted(wanted.keys() - tensors.keys()):
        raise ConfigError(
            f"{directory} lacks {len(missing)} tensors, the first is {missing[0]!r}; save the whole model"
        )
    if extra := sorted(tensors.keys() - wanted.keys()):
        raise ConfigError(
            f"{directory} has {len(extra)} tensors that a Llama does not have, the first is {extra[0]!r}; "
            "merge adapters into the model and save it again"
        )
    for name, size in wanted.items():
        if tensors[name].shape != size:
            found = tensors[name].shape
            raise ConfigError(
                f"{directory}: {name} has shape {found}, but {CONFIG} makes it {size}; save the model again"
            )
    return Llama(shape, tensors)


def read_shape(directory: Path) -> LlamaShape:
    """Read config.json alone.

    :raises ConfigError: if it is missing, is not of a Llama, or sets something that this module does not know.
    """
    path = directory / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{directory} has no {CONFIG}; give the directory that save_pretrained wrote") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); save the model again") from error
    if not isinstance(config, dict) or config.get("model_type") != "llama":
        kind = config.get("model_type") if isinstance(config, dict) else None
        raise ConfigError(f"{path} is of model_type {kind!r}; only 'llama' (LlamaForCausalLM) can be converted")
    for name, supported in (("hidden_act", "silu"), ("quantization_config", None)):
        if config.get(name, supported) != supported:
            raise ConfigError(f"{path} has {name} {config[name]!r}, which cannot be converted; {supported!r} can")
    try:
        return _shape(config)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{path} is not a complete Llama configuration ({error!r}); save the model again") from error


def _shape(config: dict[str, Any]) -> LlamaShape:
    heads, dim = int(config["num_attention_heads"]), int(config["hidden_size"])
    theta, scaling = _rope(config)
    shape = LlamaShape(
        vocab=int(config["vocab_size"]),
        dim=dim,
        ffn=int(config["intermediate_size"]),
        layers=int(config["num_hidden_layers"]),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=int(config.get("head_dim") or dim // heads),
        norm_eps=float(config.get("rms_norm_eps", 1e-6)),
        positions=int(config.get("max_position_embeddings", 2048)),
        tied=bool(config.get("tie_word_embeddings", False)),
        attention_bias=bool(config.get("attention_bias", False)),
        mlp_bias=bool(config.get("mlp_bias", False)),
        rope_theta=theta,
        rope_scaling=scaling,
        bos=config.get("bos_token_id"),
    )
    sizes = (shape.vocab, dim, shape.ffn, shape.layers, heads, shape.kv_heads, shape.head_dim, shape.positions)
    if min(sizes) < 1 or heads % shape.kv_heads or shape.head_dim % 2:
        raise ValueError(f"the sizes {sizes} do not fit together")
    return shape


def _rope(config: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Base and scaling of the rotary positions, from transformers 5's `rope_parameters` or the older pair of fields."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = float(rope.pop("rope_theta", None) or config.get("rope_theta") or 10000.0)
    kind = rope.pop("rope_type", None) or rope.pop("type", None) or "default"
    rope.pop("type", None)
    if kind not in ("default", "linear", "llama3"):
        raise ConfigError(f"rotary positions of type {kind!r} cannot be converted; default, linear and llama3 can")
    if float(rope.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ConfigError(
            "rotary positions on only some numbers of each head (partial_rotary_factor) cannot be converted"
        )
    if kind == "llama3":
        rope.setdefault("original_max_position_embeddings", config.get("max_position_embeddings", 2048))
    return theta, {"rope_type": kind, **rope}


def inverse_frequencies(shape: LlamaShape) -> Array:
    """Angle per position of each pair of numbers in a head, [d / 2], scaled by the config (RoFormer, 2104.09864)."""
    even = np.arange(0, shape.head_dim, 2, dtype=np.float32) / np.float32(shape.head_dim)
    unscaled = np.asarray(1.0 / np.float32(shape.rope_theta) ** even, np.float32)
    return np.asarray(unscaled / rope_factors(shape), np.float32)


def rope_factors(shape: LlamaShape) -> Array:
    """Divisor of each unscaled frequency, [d / 2]: ones unless positions are scaled."""
    half, scaling = shape.head_dim // 2, shape.rope_scaling
    if scaling["rope_type"] == "default":
        return np.ones(half, np.float32)
    factor = float(scaling["factor"])
    if scaling["rope_type"] == "linear":
        return np.full(half, factor, np.float32)
    even = np.arange(0, shape.head_dim, 2) / shape.head_dim
    wave = 2 * math.pi * shape.rope_theta**even  # tokens in a full turn
    low, high = float(scaling["low_freq_factor"]), float(scaling["high_freq_factor"])
    turns = float(scaling["original_max_position_embeddings"]) / wave
    unscaled = np.clip((turns - low) / (high - low), 0.0, 1.0)  # 1: fast turns keep their frequency; 0: slow turns
    return np.asarray(1.0 / ((1 - unscaled) / factor + unscaled), np.float32)


def rope_tables(shape: LlamaShape, positions: int) -> tuple[Array, Array]:
    """Cosines and sines of the first positions, float32 [positions, d] both."""
    angles = np.arange(positions, dtype=np.float32)[:, None] * inverse_frequencies(shape)
    angles = np.concatenate((angles, angles), axis=1)
    return np.cos(angles), np.sin(angles)


def _expected(shape: LlamaShape) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors."""
    dim, ffn = shape.dim, shape.ffn
    out, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    attention = {"q_proj": (out, dim), "k_proj": (kv, dim), "v_proj": (kv, dim), "o_proj": (dim, out)}
    mlp = {"gate_proj": (ffn, dim), "up_proj": (ffn, dim), "down_proj": (dim, ffn)}
    sizes: dict[str, tuple[int, ...]] = {"embed_tokens.weight": (shape.vocab, dim), "norm.weight": (dim,)}
    if not shape.tied:
        sizes["lm_head.weight"] = (shape.vocab, dim)
    modules = (("self_attn", attention, shape.attention_bias), ("mlp", mlp, shape.mlp_bias))
    for layer in range(shape.layers):
        for module, matrices, bias in modules:
            for name, size in matrices.items():
                sizes[f"layers.{layer}.{module}.{name}.weight"] = size
                if bias:
                    sizes[f"layers.{layer}.{module}.{name}.bias"] = size[:1]
        for name in ("input_layernorm", "post_attention_layernorm"):
            sizes[f"layers.{layer}.{name}.weight"] = (dim,)
    return sizes


def _read_tensors(directory: Path) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    for name in _weight_files(directory):
        try:
            with safe_open(directory / name, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  # the file is not a mapping
                    tensor = file.get_tensor(key)
                    if not tensor.is_floating_point():
                        raise ConfigError(
                            f"{name}: {key} is {tensor.dtype}; only floating-point weights can be converted"
                        )
                    tensors[key] = tensor.to(torch.float32).numpy()
        except (SafetensorError, OSError) as error:
            raise ConfigError(f"{directory / name} cannot be read ({error}); save the model again") from error
    return tensors


def _weight_files(directory: Path) -> list[str]:
    """Names of the files with weights; a shard's name may not lead out of the directory."""
    if (directory / SINGLE_FILE).is_file():
        return [SINGLE_FILE]
    if not (directory / SHARD_INDEX).is_file():
        raise ConfigError(
            f"{directory} has neither {SINGLE_FILE} nor {SHARD_INDEX}; save it with safe_serialization=True"
        )
    try:
        shards = set(json.loads((directory / SHARD_INDEX).read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{directory / SHARD_INDEX} cannot be read ({error!r}); save the model again") from error
    for name in shards:
        if not isinstance(name, str) or Path(name).name != name:
            raise ConfigError(
                f"{directory / SHARD_INDEX} names {name!r}, which is not a simple file name; save the model again"
            )
    return sorted(shards)
