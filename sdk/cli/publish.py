"""`pocketrec keys`, `publish`, `repo` and `serve`: a signed repository of releases, as static files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pocketrec.cli.output import print_json, print_pairs, stderr, stdout
from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.export.publish.keys import SigningKey

PUBLISH_EXAMPLE = (
    "Example: [bold]pocketrec publish runs/first/export/bundle --repo site --keys keys --share 0.1[/bold], "
    "and the same with --share 1 when it has proved itself"
)
keys_app = typer.Typer(help="Signing keys of a repository.", no_args_is_help=True)
repo_app = typer.Typer(help="Look after a repository.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Repo = Annotated[Path, typer.Option("--repo", help="Folder of the repository; any static web server can serve it.")]
Keys = Annotated[
    Path | None,
    typer.Option("--keys", help="Folder of signing keys; those in POCKETREC_KEY_<ROLE> count, too."),
]


@keys_app.command("create", epilog="Example: [bold]POCKETREC_KEY_PASSPHRASE=… pocketrec keys create --out keys[/bold]")
def keys_create(
    out: Annotated[Path, typer.Option(help="Folder for the keys, outside of any repository.")],
    role: Annotated[
        list[str] | None,
        typer.Option(help="root, targets, snapshot or timestamp; again for more. One of each if left out."),
    ] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Do not encrypt the files.")] = False,
    as_json: Json = False,
) -> None:
    """Make new signing keys. Keep root keys offline; a timer needs those of snapshot and timestamp only."""
    from pocketrec.export.publish.keys import PASSPHRASE, ROLES, create_keys

    if (out / "metadata").exists() or any((parent / "metadata" / "timestamp.json").exists() for parent in out.parents):
        raise ConfigError(f"{out} lies in a repository; private keys must not")
    passphrase = None if plain else os.environ.get(PASSPHRASE)
    if passphrase is None and not plain:
        passphrase = typer.prompt("Passphrase of the keys", hide_input=True, confirmation_prompt=True, err=True)
    paths = create_keys(out, tuple(role) if role else ROLES, passphrase)
    if as_json:
        print_json({"keys": [str(path) for path in paths]})
    else:
        for path in paths:
            stdout().print(str(path), soft_wrap=True)


def publish(
    bundle: Annotated[Path, typer.Argument(help="The bundle to publish; it is checked first.")],
    repo: Repo,
    keys: Keys = None,
    channel: Annotated[str, typer.Option(help="Channel of the release.")] = "stable",
    share: Annotated[float, typer.Option(help="Share of the devices that may have it.")] = 1.0,
    minimum_runtime: Annotated[str, typer.Option(help="Least version of pocketrec that opens it.")] = "0",
    keep: Annotated[int, typer.Option(help="Releases of the channel that stay.")] = 5,
    patches: Annotated[int, typer.Option(help="Older catalogues that patches are made from.")] = 5,
    as_json: Json = False,
) -> None:
    """Publish a bundle as the next release of a channel; again with another share, to widen it."""
    from pocketrec.export.publish.publish import PublishSettings
    from pocketrec.export.publish.publish import publish as release
    from pocketrec.export.publish.repository import Repository

    settings = PublishSettings(channel, share, minimum_runtime, keep, patches)
    with stderr().status("publishing"):
        done = release(bundle, Repository(repo), _keys(keys, repo), settings)
    result = {
        "version": done.release,
        "changed": done.changed,
        "bytes": done.bytes,
        "channel": done.channel,
        "share": share,
        "patches": {str(base): size for base, size in done.patches.items()},
        "repo": str(repo),
    }
    if as_json:
        print_json(result)
    else:
        print_pairs("published" if done.changed else "published already", result)


@repo_app.command("init", epilog="Example: [bold]pocketrec repo init --repo site --keys keys --threshold root=2[/bold]")
def repo_init(
    repo: Repo,
    keys: Keys = None,
    threshold: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=N", help="Signatures that a role needs (1).")
    ] = None,
    expires: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=DAYS",
            help="Days that a role's metadata lasts (root 365, targets 90, snapshot 14, timestamp 2).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a repository; its metadata/1.root.json goes into the app."""
    from pocketrec.export.publish.repository import EXPIRES, Repository

    repository = Repository(repo)
    with repository.change():
        repository.create(_keys(keys, repo), _numbers(threshold), {**EXPIRES, **_numbers(expires)})
    root = repo / "metadata" / "1.root.json"
    if as_json:
        print_json({"repo": str(repo), "root": str(root)})
    else:
        stdout().print(f"made {repo}; put {root} into the app", soft_wrap=True)


@repo_app.command("status", epilog="Example: [bold]pocketrec repo status --repo site[/bold]")
def repo_status(repo: Repo, as_json: Json = False) -> None:
    """Show roles, keys, expiry and releases; warns of what expires soon."""
    from pocketrec.export.publish.status import describe

    status = describe(repo)
    if as_json:
        print_json(status)
    else:
        _show(status)


@repo_app.command("renew", epilog="Example (daily): [bold]pocketrec repo renew --repo site --keys online-keys[/bold]")
def repo_renew(
    repo: Repo,
    keys: Keys = None,
    role: Annotated[
        list[str] | None, typer.Option(help="root, targets, snapshot, timestamp; snapshot and timestamp if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign roles anew before they expire: snapshot and timestamp daily, by a timer; the root once a year."""
    from pocketrec.export.publish.publish import renew
    from pocketrec.export.publish.repository import Repository
    from pocketrec.export.publish.status import describe

    renew(Repository(repo), _keys(keys, repo), role or ["snapshot", "timestamp"])
    expires = describe(repo)["roles"]["timestamp"]["expires"]
    if as_json:
        print_json({"repo": str(repo), "expires": expires})
    else:
        stdout().print(f"the timestamp now lasts until {expires}")


@repo_app.command(
    "rotate",
    epilog="Example: [bold]pocketrec repo rotate --repo site --keys keys --new timestamp-5e6f.pem --remove 1a2b[/bold]",
)
def repo_rotate(
    repo: Repo,
    keys: Keys = None,
    role: Annotated[str, typer.Option(help="Role of the new key.")] = "timestamp",
    new: Annotated[Path | None, typer.Option(help="File of a key to add.")] = None,
    remove: Annotated[str | None, typer.Option(help="First digits of the id of a key to remove.")] = None,
    as_json: Json = False,
) -> None:
    """Give a role another key; clients follow by themselves. Needs the root's keys."""
    from pocketrec.export.publish.keys import PASSPHRASE, ROLES, load_key
    from pocketrec.export.publish.publish import rotate
    from pocketrec.export.publish.repository import Repository

    if new is None and remove is None:
        raise ConfigError("nothing to do; give --new, --remove or both")
    if role not in ROLES:
        raise ConfigError(f"there is no role {role!r}; choose of {', '.join(ROLES)}")
    added = load_key(new, role, os.environ.get(PASSPHRASE)) if new else None
    version = rotate(Repository(repo), _keys(keys, repo), added, remove)
    if as_json:
        print_json({"repo": str(repo), "root": version})
    else:
        stdout().print(f"the root is now version {version}; apps that carry an older one follow by themselves")


@repo_app.command("withdraw", epilog="Example: [bold]pocketrec repo withdraw stable/12 --repo site --keys keys[/bold]")
def repo_withdraw(
    release: Annotated[str, typer.Argument(metavar="CHANNEL/RELEASE")], repo: Repo, keys: Keys = None
) -> None:
    """Take a release back: devices return to the one before it at their next refresh."""
    from pocketrec.export.publish.publish import withdraw
    from pocketrec.export.publish.repository import Repository

    channel, _, number = release.partition("/")
    if not number.isdigit():
        raise ConfigError(f"{release!r} is no release; write it like stable/12")
    withdraw(Repository(repo), _keys(keys, repo), channel, int(number))
    stdout().print(f"withdrew {release}")


def serve(
    folder: Annotated[Path, typer.Argument(help="Folder of a repository.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0: any free one.")] = 8000,
) -> None:
    """Serve a repository on this machine alone, for development. For anything else, use a web server."""
    from pocketrec.serving import serve_folder

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder")
    serve_folder(folder, port, lambda url: stderr().print(f"serving {folder} at {url}, for development only"))


def _keys(folder: Path | None, repo: Path) -> Sequence[SigningKey]:
    from pocketrec.export.publish.keys import PASSPHRASE, load_keys

    if folder is not None and folder.resolve().is_relative_to(repo.resolve()):
        raise ConfigError(f"the keys in {folder} lie inside the repository, where everybody could read them; move them")
    return load_keys(folder, os.environ.get(PASSPHRASE))


def _numbers(pairs: Sequence[str] | None) -> dict[str, int]:
    from pocketrec.export.publish.keys import ROLES

    found = {}
    for pair in pairs or ():
        role, _, number = pair.partition("=")
        if role not in ROLES or not number.isdigit():
            raise ConfigError(f"{pair!r} is not understood; write ROLE=NUMBER with a role of {', '.join(ROLES)}")
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
