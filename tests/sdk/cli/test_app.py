"""The command line as a whole: exit codes, one clear line for an error, help with examples."""

from __future__ import annotations

import re

import pytest
import typer
from command import pocketrec

from pocketrec.cli.app import app


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("train", "--interactions", "LOG", "--out", "OUT", "--set", "train.epoch=1"), 2, "epoch"),
        (("train", "--interactions", "nowhere.csv", "--out", "OUT"), 1, "nowhere.csv"),
        (("train", "--interactions", "LOG", "--out", "OUT", "--from", "wine"), 2, "data, text, sids"),
        (("train", "--out", "OUT"), 2, "--interactions"),
        (("evaluate", "OUT", "--interactions", "LOG"), 1, "give the path of a bundle"),
        (("recommend", "OUT", "--history", "a"), 1, "give the path of a bundle"),
        (("nonsense",), 2, "nonsense"),
        (("train", "--interactions", "LOG", "--user", "who", "--out", "OUT"), 1, "who"),
    ],
)
def test_errors_are_one_clear_line_and_an_exit_code(arguments, code, message, log, tmp_path):
    places = {"LOG": log / "log.csv", "OUT": tmp_path / "out"}
    found, out, err = pocketrec(*(places.get(a, a) for a in arguments))
    assert found == code, err
    assert message in err
    assert out == ""
    assert "Traceback" not in err


def commands(group, *names):
    """Yield the name of every command below a group, with the names of the groups above it."""
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, *names, name)
    if names and not hasattr(group, "commands"):
        yield " ".join(names)


@pytest.mark.parametrize("command", list(commands(typer.main.get_command(app))))
def test_every_command_has_an_example_of_itself(command):
    code, out, _ = pocketrec(*command.split(), "--help")
    assert code == 0
    assert re.search(rf"Examples?: .*pocketrec {command} ", " ".join(out.split()))
