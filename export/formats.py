"""The table of all formats that a trained student can be exported as."""

from __future__ import annotations

from dataclasses import dataclass

from pocketrec.export.gguf.student import SCHEMES as GGUF_SCHEMES
from pocketrec.export.quantize import SCHEMES
from pocketrec.runtime.errors import ConfigError


@dataclass(frozen=True)
class Format:
    """A row of the table: `--format`, `--quantize`, how weights are stored, and the engine that runs the bundle."""

    name: str
    quantize: str
    stores: str
    engine: str

    @property
    def artifact(self) -> str:
        """The format's name in reports."""
        return f"{self.name} {self.quantize}"


FORMATS = (
    *(Format("onnx", name, scheme.stores, "onnx") for name, scheme in SCHEMES.items()),
    *(Format("gguf", name, scheme.stores, "gguf") for name, scheme in GGUF_SCHEMES.items()),
)

# Weights are decoded when the file is opened, so the format does not depend on the CPU: both presets are the smallest
# format that was measured to lose no quality (docs/decisions/0009-quantisation.md).
PRESETS = {"arm64": ("onnx", "int8"), "x86": ("onnx", "int8")}


def find_format(name: str | None, quantize: str | None, preset: str | None = None) -> Format:
    """Find a format; a name or quantisation left out comes from the preset, without a preset from float32 ONNX.

    :raises ConfigError: if there is no such format or preset.
    """
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"there is no preset {preset!r}; choose one of {', '.join(PRESETS)}")
    first, second = PRESETS[preset] if preset else ("onnx", "none")
    wanted = name or first, quantize or (second if name in (None, first) else "none")
    for row in FORMATS:
        if (row.name, row.quantize) == wanted:
            return row
    known = ", ".join(row.artifact for row in FORMATS)
    raise ConfigError(f"there is no format {' '.join(wanted)!r}; choose one of: {known}")
