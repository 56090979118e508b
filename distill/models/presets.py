"""Presets named after published systems: which sources an item's token is made of, and which weights are tuned.

A preset reproduces only these two choices of a system; docs/teachers.md lists for each what is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from pocketrec.distill.config import TeacherConfig
from pocketrec.runtime.errors import ConfigError

Source = Literal["text", "collaborative", "sid", "image", "id"]


@dataclass(frozen=True)
class Preset:
    """The settings of a preset."""

    sources: tuple[Source, ...]
    tuning: Literal["lora", "full"]


PRESETS = {
    "tallrec": Preset(("text",), "lora"),  # Bao et al. 2023, arXiv 2305.00447
    "e4srec": Preset(("collaborative",), "lora"),  # Li et al. 2023, arXiv 2312.02443
    "collm": Preset(("text", "collaborative"), "lora"),  # Zhang et al. 2023, arXiv 2310.19488
    "llara": Preset(("text", "collaborative"), "lora"),  # Liao et al. 2023, arXiv 2312.02445
    "lc-rec": Preset(("text", "sid"), "full"),  # Zheng et al. 2023, arXiv 2311.09049
    "vip5": Preset(("text", "image", "id"), "lora"),  # Geng et al. 2023, arXiv 2305.14302
}


def apply_preset(config: TeacherConfig) -> TeacherConfig:
    """Return the configuration with the preset's sources and tuning; without a preset, unchanged.

    Applying it twice has the same effect as once.

    :raises ConfigError: if the configuration sets sources or tuning to something else than the preset.
    """
    if not config.preset:
        return config
    preset, defaults = PRESETS[config.preset], TeacherConfig()
    for name in ("sources", "tuning"):
        given, wanted = getattr(config, name), getattr(preset, name)
        if given not in (wanted, getattr(defaults, name)):
            raise ConfigError(
                f"teacher.preset = {config.preset!r} sets teacher.{name} to {wanted!r}, but the configuration sets it "
                f"to {given!r}; remove teacher.{name} or teacher.preset"
            )
    return msgspec.structs.replace(config, sources=preset.sources, tuning=preset.tuning)
