"""Reads a small safetensors file of one known format: header, version, names, types and dimensions are checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from pocketrec.runtime.errors import BundleError, one_line
from pocketrec.runtime.files.safetensors import check_header


class TensorRule(NamedTuple):
    """Types that a tensor may have, as the header spells them, and its number of dimensions."""

    dtypes: tuple[str, ...]
    dimensions: int


def load_tensors(path: Path, format: str, version: str, rules: Mapping[str, TensorRule]) -> dict[str, NDArray[Any]]:
    """Return all tensors of a file by name.

    :param format: what its metadata must say; version: likewise.
    :param rules: every tensor that it must have, and no other.
    :raises BundleError: if it is damaged, of another format or version, or breaks a rule.
    """
    try:
        check_header(path)
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            if (metadata.get("format"), metadata.get("version")) != (format, version):
                raise BundleError(
                    f"{path.name} has format {metadata.get('format')!r:.60}, version {metadata.get('version')!r:.20}, "
                    f"and this runtime reads {format!r}, {version!r}; update pocketrec or export the bundle again"
                )
            if set(file.keys()) != set(rules):
                raise BundleError(f"{path.name} needs exactly the tensors {', '.join(rules)}; export the bundle again")
            for name, rule in rules.items():
                tensor = file.get_slice(name)
                if tensor.get_dtype() not in rule.dtypes or len(tensor.get_shape()) != rule.dimensions:
                    raise BundleError(
                        f"{path.name} has {name} of {tensor.get_dtype()} {tensor.get_shape()}; export the bundle again"
                    )
            return {name: file.get_tensor(name) for name in rules}
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(
            f"{path.name} is damaged or no safetensors file ({one_line(error)}); fetch the bundle again"
        ) from error
