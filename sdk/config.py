"""Reads the configuration of a run from files and `--set section.name=value`, and refuses a wrong one."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pocketrec.runtime.errors import ConfigError, MissingExtraError

try:
    import msgspec

    from pocketrec.distill.config import RunConfig
except ModuleNotFoundError as error:
    raise MissingExtraError(
        "training needs pocketrec[train]; install it with: pip install 'pocketrec[train]'"
    ) from error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def load_config(
    path: Path | None = None, settings: Iterable[str] = (), defaults: Mapping[str, Any] | None = None
) -> RunConfig:
    """Read a configuration: defaults, then the file, then single settings; each overrides what comes before it.

    :param path: a TOML or JSON file whose tables are the sections of `RunConfig`.
    :param settings: `section.name=value` strings; a value that is not JSON is taken as a string.
    :param defaults: sections that the file may override.
    :raises ConfigError: if a name is unknown, or a value has the wrong type or is out of range; the message gives its
        path.
    """
    return config_of(given_settings(path, settings), defaults or {}, source=str(path) if path else "")


def given_settings(path: Path | None, settings: Iterable[str]) -> dict[str, Any]:
    """Read only what a file and single settings name: section → name → value; not checked yet (`config_of` does).

    :raises ConfigError: if the file cannot be read, or a setting is not of the form `section.name=value`.
    """
    tree: dict[str, Any] = _read(path) if path is not None else {}
    for setting in settings:
        _merge(tree, _parse_setting(setting))
    return tree


def config_of(given: Mapping[str, Any], *defaults: Mapping[str, Any], source: str = "") -> RunConfig:
    """Complete settings to a configuration.

    :param given: section → name → value; they win over `defaults`, of which a later one wins over an earlier one.
    :param source: the file that they are from, for error messages.
    :raises ConfigError: if a name is unknown, or a value has the wrong type or is out of range.
    """
    # All defaults are written out first: a section's `train` has its own, which a single setting must not reset.
    tree: dict[str, Any] = config_to_dict(RunConfig())
    for part in (*defaults, given):
        _merge(tree, part)
    try:
        config = msgspec.convert(tree, RunConfig)
    except msgspec.ValidationError as error:
        where = f"{source}: " if source else ""
        raise ConfigError(f"{where}{error}; see docs/configuration.md for every setting and its default") from error
    return config


def merged(*trees: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of several trees, section → name → value; a later tree wins."""
    out: dict[str, Any] = {}
    for tree in trees:
        _merge(out, copy.deepcopy(dict(tree)))
    return out


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by full name ("sasrec.train.epochs") as a tree of sections."""
    tree: dict[str, Any] = {}
    for name, value in settings.items():
        *sections, last = name.split(".")
        place = tree
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return tree


def config_to_dict(config: Any) -> Any:
    """Return a configuration as plain dictionaries, with every default."""
    return msgspec.to_builtins(config)


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        tree = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise ConfigError(f"the configuration {path} cannot be read: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"the configuration {path} must have sections, such as [train]")
    return tree


def _parse_setting(setting: str) -> dict[str, Any]:
    name, equals, text = setting.partition("=")
    if not equals or not all(name.split(".")):
        raise ConfigError(f"--set {setting!r} is not of the form section.name=value, such as train.epochs=5")
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for part in reversed(name.strip().split(".")):
        value = {part: value}
    return dict(value)


def _merge(into: dict[str, Any], tree: Mapping[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, Mapping) and isinstance(into.get(name), dict):
            _merge(into[name], value)
        else:
            into[name] = value
