"""`pocketrec keys`: the signing keys of a repository."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketrec.cli.options import Json, example
from pocketrec.cli.output import print_json, stdout
from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.export.publish.keys import SigningKey

keys_app = typer.Typer(name="keys", help="Signing keys of a repository.", no_args_is_help=True)


@keys_app.command("create", epilog=example("POCKETREC_KEY_PASSPHRASE=… pocketrec keys create --out keys"))
def keys_create(
    out: Annotated[Path, typer.Option(help="Folder for the keys, outside of any repository.")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="root, targets, snapshot or timestamp; repeat it for more. If left out: a key for each."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Do not encrypt the files.")] = False,
    as_json: Json = False,
) -> None:
    """Create signing keys. Keep root keys offline; a timer that renews needs only those of snapshot and timestamp."""
    from pocketrec.export.publish.keys import PASSPHRASE, ROLES, create_keys

    if (out / "metadata").exists() or any((parent / "metadata" / "timestamp.json").exists() for parent in out.parents):
        raise ConfigError(f"{out} is inside a repository, where everyone can read it; keep private keys elsewhere")
    passphrase = None if plain else os.environ.get(PASSPHRASE)
    if passphrase is None and not plain:
        passphrase = typer.prompt("Passphrase of the keys", hide_input=True, confirmation_prompt=True, err=True)
    paths = create_keys(out, tuple(role) if role else ROLES, passphrase)
    if as_json:
        print_json({"keys": [str(path) for path in paths]})
    else:
        for path in paths:
            stdout().print(str(path), soft_wrap=True)


def signing_keys(folder: Path | None, repo: Path) -> Sequence[SigningKey]:
    """Read the keys of a folder and of the environment.

    :param repo: the repository that they are for; they must not be inside it.
    :raises ConfigError: if they are.
    """
    from pocketrec.export.publish.keys import PASSPHRASE, load_keys

    if folder is not None and folder.resolve().is_relative_to(repo.resolve()):
        raise ConfigError(f"the keys in {folder} are inside the repository, where everyone can read them; move them")
    return load_keys(folder, os.environ.get(PASSPHRASE))
