"""Presets named after the field's systems: which sources an item's token is made of, and what is tuned.

A preset is the part of a system that this teacher can be; docs/teachers.md says for each which part that is not.
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
    """What a preset sets."""

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
    """Return the configuration with the preset's sources and tuning in it; without a preset, as it is.

    Applying it twice changes nothing.

    :raises ConfigError: if a setting is given besides that the preset sets otherwise.
    """
    if not config.preset:
        return config
    preset, plain = PRESETS[config.preset], TeacherConfig()
    for name in ("sources", "tuning"):
        given, wanted = getattr(config, name), getattr(preset, name)
        if given not in (wanted, getattr(plain, name)):
            raise ConfigError(
                f"teacher.preset = {config.preset!r} sets teacher.{name} to {wanted!r}, but {given!r} is given; "
                f"leave out teacher.{name}, or the preset"
            )
    return msgspec.structs.replace(config, sources=preset.sources, tuning=preset.tuning)
