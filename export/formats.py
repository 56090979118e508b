"""The one table of what a trained student can be exported as."""

from __future__ import annotations

from dataclasses import dataclass

from pocketrec.export.gguf.student import SCHEMES as GGUF_SCHEMES
from pocketrec.export.quantize import SCHEMES
from pocketrec.runtime.errors import ConfigError


@dataclass(frozen=True)
class Format:
    """A row: `--format`, `--quantize`, what is stored, and the engine that runs it."""

    name: str
    quantize: str
    does: str
    engine: str

    @property
    def artifact(self) -> str:
        """What reports call it."""
        return f"{self.name} {self.quantize}"


FORMATS = (
    *(Format("onnx", name, scheme.does, "onnx") for name, scheme in SCHEMES.items()),
    *(Format("gguf", name, scheme.does, "gguf") for name, scheme in GGUF_SCHEMES.items()),
)

# Weights are decoded when the file is opened, so no integer kernel of a CPU family is at work: both take the format
# that was measured to lose nothing (docs/decisions/0009-quantisation.md).
PRESETS = {"arm64": ("onnx", "int8"), "x86": ("onnx", "int8")}


def find_format(name: str | None, quantize: str | None, preset: str | None = None) -> Format:
    """Look a format up; what is not named comes from the preset, or is float32 ONNX.

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
