"""A configuration is typed, and a wrong one is refused where it enters, by its path."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from pocketrec.config import config_to_dict, load_config
from pocketrec.distill.config import RunConfig
from pocketrec.quickstart import DEFAULTS
from pocketrec.runtime.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_settings_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "run.toml"
    file.write_text("[train]\nepochs = 3\nbatch_size = 64\n[data]\nuser = 'who'\n")
    config = load_config(file, ["train.epochs=7", "text.encoder=none"], {"train": {"epochs": 1, "ema": 0.5}})
    assert (config.train.epochs, config.train.batch_size, config.train.ema) == (7, 64, 0.5)
    assert (config.data.user, config.text.encoder) == ("who", "none")


def test_a_setting_within_a_section_leaves_its_other_defaults_alone():
    usual = RunConfig()
    config = load_config(
        None, ["teacher.train.epochs=3", "preference.train.seed=1"], {"sasrec": {"train": {"ema": 0.5}}}
    )
    assert config.teacher.train == replace(usual.teacher.train, epochs=3)
    assert config.preference.train == replace(usual.preference.train, seed=1)
    assert config.sasrec.train == replace(usual.sasrec.train, ema=0.5)


def test_what_is_written_out_reads_back_the_same(tmp_path):
    config = load_config(None, ["train.seed=5", 'data.text=["title"]'])
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config_to_dict(config)))
    assert load_config(file) == config


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("train.epoch=3", "epoch"),
        ("nonsense.a=1", "nonsense"),
        ("train.epochs=many", r"\$\.train\.epochs"),
        ("train.epochs=0", r"\$\.train\.epochs"),
        ("student.dropout=1.5", r"\$\.student\.dropout"),
        ("data.half_life=0", r"\$\.data\.half_life"),
        ("data.event_weights=buy", r"'buy' is not of the form type=weight.*\$\.data"),
        ("data.event_weights=buy=-1", r"'buy=-1' is not of the form"),
        ("data.event_weights=buy=nan", r"'buy=nan' is not of the form"),
        ("data.event_weights==3", r"'=3' is not of the form"),
        ('data.event_weights={"buy": -1}', r"\$\.data\.event_weights"),
        ("data.split=random", r"\$\.data\.split"),
        ("train.epochs", "section.name=value"),
        ("=3", "section.name=value"),
        ("train..epochs=3", "section.name=value"),
    ],
)
def test_unknown_names_and_wrong_values_are_refused_by_their_path(setting, message):
    with pytest.raises(ConfigError, match=message):
        load_config(None, [setting])


@pytest.mark.parametrize("content", [b"[train\n", b"\xff\xfe", b"3"])
def test_an_unreadable_file_is_refused_by_its_name(tmp_path, content):
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load_config(file)
    with pytest.raises(ConfigError, match=r"gone\.toml"):
        load_config(tmp_path / "gone.toml")


@pytest.mark.parametrize("setting", ["data.event_weights=buy=8, cart = 4,", 'data.event_weights={"buy": 8, "cart": 4}'])
def test_weights_of_event_types_are_a_mapping_or_text(setting, tmp_path):
    config = load_config(None, [setting])
    assert config.data.type_weights == {"buy": 8, "cart": 4}
    file = tmp_path / "config.json"
    file.write_text(json.dumps(config_to_dict(config)))
    assert load_config(file).data.type_weights == {"buy": 8, "cart": 4}


def test_training_without_a_teacher_can_be_said():
    assert load_config(None, ["teacher.enabled=false"]) == RunConfig()


def test_every_shipped_configuration_is_valid():
    load_config(None, (), DEFAULTS)
    for file in ROOT.glob("benchmarks/*.toml"):
        load_config(file)


def test_every_setting_is_in_the_documentation():
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    for section, settings in config_to_dict(RunConfig()).items():
        assert f"## `[{section}]`" in page
        part = re.split(r"^## ", page.split(f"## `[{section}]`")[1], flags=re.M)[0]
        for name, default in settings.items():
            if isinstance(default, dict):
                continue
            row = re.search(rf"^\| `{name}` \| (.*?) \|", part, flags=re.M)
            assert row, f"{section}.{name} is not in docs/configuration.md"
            assert row[1] == f"`{json.dumps(default)}`", f"{section}.{name}: the page says {row[1]}"
