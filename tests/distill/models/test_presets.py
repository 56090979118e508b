"""Presets set what they say and refuse the contrary."""

from __future__ import annotations

import pytest
import torch

from pocketrec.distill.config import TeacherConfig
from pocketrec.distill.models.presets import PRESETS, apply_preset
from pocketrec.runtime.errors import ConfigError
from tiny_teacher import scores, teacher


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_preset_sets_sources_and_tuning_and_can_be_built(name):
    config = apply_preset(TeacherConfig(preset=name))
    assert (config.sources, config.tuning) == (PRESETS[name].sources, PRESETS[name].tuning)
    assert apply_preset(config) == config
    assert torch.isfinite(scores(teacher(sources=config.sources, tuning=config.tuning))).all()


def test_a_setting_that_a_preset_sets_otherwise_is_refused():
    assert apply_preset(TeacherConfig(sources=("id",))).sources == ("id",)
    with pytest.raises(ConfigError, match=r"'e4srec' sets teacher\.sources"):
        apply_preset(TeacherConfig(preset="e4srec", sources=("id",)))
    with pytest.raises(ConfigError, match=r"teacher\.tuning"):
        apply_preset(TeacherConfig(preset="lc-rec", tuning="lora"))
