"""The docs keep up with the code: public names are documented, links lead somewhere, commands in the docs exist."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import pocketrec

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "android_demo").glob("*.md")])
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
COMMAND = re.compile(
    r"\bpocketrec ((?:[a-z]+(?:-[a-z]+)*)(?: (?:check|refresh|create|init|status|renew|rotate|withdraw))?)\b"
)


def public_members(name):
    """The name itself and, of a class, its public methods and properties that are ours."""
    found = getattr(pocketrec, name)
    yield name, found
    if inspect.isclass(found):
        for member, value in vars(found).items():
            if not member.startswith("_") and (
                callable(value) or isinstance(value, (property, classmethod, staticmethod))
            ):
                yield f"{name}.{member}", getattr(found, member)


@pytest.mark.parametrize("name", pocketrec.__all__)
def test_a_public_name_stands_in_the_reference_with_all_its_docstrings(name):
    assert f"::: pocketrec.{name}\n" in (ROOT / "docs/reference/api.md").read_text(encoding="utf-8")
    assert [member for member, value in public_members(name) if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_files_lead_to_a_file(page):
    targets = [
        t for t in LINK.findall(page.read_text(encoding="utf-8")) if "://" not in t and not t.startswith("mailto:")
    ]
    assert [t for t in targets if not (page.parent / t).exists()] == []


def commands():
    """Every command of the command line, subcommands as "group name"."""
    import typer.main

    from pocketrec.cli.app import app

    root = typer.main.get_command(app)
    for name, command in root.commands.items():
        yield name
        yield from (f"{name} {sub}" for sub in getattr(command, "commands", {}))


def test_the_page_of_commands_names_every_command_and_no_other():
    page = (ROOT / "docs/how-to/commands.md").read_text(encoding="utf-8")
    named = {match for match in COMMAND.findall(page)}
    known = set(commands())
    groups = {name.split(" ")[0] for name in known if " " in name}
    assert named - known == set()
    assert {name for name in known if " " not in name and name not in groups} - named == set()
    assert groups - {name.split(" ")[0] for name in named} == set()
