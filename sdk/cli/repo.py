"""`pocketrec repo`: look after a signed repository of releases."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from pocketrec.cli.keys import signing_keys
from pocketrec.cli.options import Json, Keys, Repo, example
from pocketrec.cli.output import print_json, stderr, stdout
from pocketrec.runtime.errors import ConfigError

repo_app = typer.Typer(name="repo", help="Look after a repository.", no_args_is_help=True)


@repo_app.command("init", epilog=example("pocketrec repo init --repo site --keys keys --threshold root=2"))
def repo_init(
    repo: Repo,
    keys: Keys = None,
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=N", help="Signatures that a role needs; 1 if left out.")
    ] = None,
    expires: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=DAYS",
            help="Days that a role's metadata is valid. If left out: root 365, targets 90, snapshot 14, timestamp 2.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Create a repository. Put its metadata/1.root.json into the app: the app trusts what this root signs."""
    from pocketrec.export.publish.repository import EXPIRES, Repository

    repository = Repository(repo)
    with repository.change():
        repository.create(signing_keys(keys, repo), _numbers(threshold), {**EXPIRES, **_numbers(expires)})
    root = repo / "metadata" / "1.root.json"
    if as_json:
        print_json({"repo": str(repo), "root": str(root)})
    else:
        stdout().print(f"created {repo}; put {root} into the app", soft_wrap=True)


@repo_app.command("status", epilog=example("pocketrec repo status --repo site"))
def repo_status(repo: Repo, as_json: Json = False) -> None:
    """Show roles, keys, expiry and releases; warn if a role expires soon."""
    from pocketrec.export.publish.status import describe

    status = describe(repo)
    if as_json:
        print_json(status)
    else:
        _show(status)


@repo_app.command("renew", epilog=example("pocketrec repo renew --repo site --keys online-keys", note=", every day"))
def repo_renew(
    repo: Repo,
    keys: Keys = None,
    role: Annotated[
        list[str] | None,
        typer.Option(
            help="root, targets, snapshot or timestamp; repeat it for more. If left out: snapshot, timestamp."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign roles again before they expire: snapshot and timestamp every day, by a timer; the root once a year."""
    from pocketrec.export.publish.repository import Repository
    from pocketrec.export.publish.roles import renew
    from pocketrec.export.publish.status import describe

    renew(Repository(repo), signing_keys(keys, repo), role or ["snapshot", "timestamp"])
    expires = describe(repo)["roles"]["timestamp"]["expires"]
    if as_json:
        print_json({"repo": str(repo), "expires": expires})
    else:
        stdout().print(f"the timestamp is now valid until {expires}")


@repo_app.command(
    "rotate",
    epilog=example("pocketrec repo rotate --repo site --keys keys --new timestamp-5e6f.pem --remove 1a2b"),
)
def repo_rotate(
    repo: Repo,
    keys: Keys = None,
    role: Annotated[str, typer.Option(help="Role of the new key.")] = "timestamp",
    new: Annotated[Path | None, typer.Option(help="File of the key to add.")] = None,
    remove: Annotated[str | None, typer.Option(help="First digits of the id of the key to remove.")] = None,
    as_json: Json = False,
) -> None:
    """Replace a key of a role; apps accept it at their next refresh. Needs the root's keys."""
    from pocketrec.export.publish.keys import PASSPHRASE, ROLES, load_key
    from pocketrec.export.publish.repository import Repository
    from pocketrec.export.publish.roles import rotate_keys

    if new is None and remove is None:
        raise ConfigError("nothing to do; give --new, --remove or both")
    if role not in ROLES:
        raise ConfigError(f"there is no role {role!r}; choose {', '.join(ROLES)}")
    added = load_key(new, role, os.environ.get(PASSPHRASE)) if new else None
    version = rotate_keys(Repository(repo), signing_keys(keys, repo), added, remove)
    if as_json:
        print_json({"repo": str(repo), "root": version})
    else:
        stdout().print(f"the root is now version {version}; apps with an older root accept it at their next refresh")


@repo_app.command("withdraw", epilog=example("pocketrec repo withdraw stable/12 --repo site --keys keys"))
def repo_withdraw(
    release: Annotated[str, typer.Argument(metavar="CHANNEL/RELEASE")], repo: Repo, keys: Keys = None
) -> None:
    """Withdraw a release: at their next refresh, devices return to the release before it."""
    from pocketrec.export.publish.publish import withdraw
    from pocketrec.export.publish.repository import Repository

    channel, _, number = release.partition("/")
    if not number.isdigit():
        raise ConfigError(f"{release!r} is not a release; write CHANNEL/NUMBER, such as stable/12")
    withdraw(Repository(repo), signing_keys(keys, repo), channel, int(number))
    stdout().print(f"withdrew {release}")


def _numbers(pairs: Sequence[str] | None) -> dict[str, int]:
    from pocketrec.export.publish.keys import ROLES

    found = {}
    for pair in pairs or ():
        role, _, number = pair.partition("=")
        if role not in ROLES or not number.isdigit():
            raise ConfigError(f"{pair!r} is not of the form ROLE=NUMBER; the roles are {', '.join(ROLES)}")
        found[role] = int(number)
    return found


def _show(status: dict[str, Any]) -> None:
    from pocketrec.cli.console import plain_table

    console = stdout()
    rows: list[tuple[object, ...]] = [
        (name, r["version"], r["expires"], f"{r['threshold']} of {len(r['keys'])}")
        for name, r in status["roles"].items()
    ]
    console.print(plain_table("roles", ("role", "version", "expires", "signatures"), rows))
    rows = [
        (channel, one["release"], one["share"], f"{one['bytes']:,}", len(one["patches"]))
        for channel, releases in status["channels"].items()
        for one in releases
    ]
    console.print(plain_table("releases", ("channel", "release", "share", "bytes", "patches"), rows))
    for warning in status["warnings"]:
        stderr().print(f"[yellow]{warning}[/yellow]")
