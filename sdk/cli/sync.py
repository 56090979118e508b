"""`pocketrec sync`: the releases of a repository, fetched into a local store."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pocketrec.cli.options import Json, example
from pocketrec.cli.output import print_json, print_pairs, stderr
from pocketrec.runtime.errors import ConfigError

if TYPE_CHECKING:
    from pocketrec.runtime.sync import SyncClient
    from pocketrec.runtime.sync.events import Event, Refreshed

EXAMPLE = example(
    "pocketrec sync https://example.com/repo --store store --root 1.root.json",
    note="; it prints the folder of the bundle",
)


def sync(
    url: Annotated[str, typer.Argument(help="Address of the repository; https, except on this machine.")],
    store: Annotated[Path, typer.Option(help="Folder of the store, which keeps the downloaded versions.")],
    root: Annotated[Path, typer.Option(help="The repository's metadata/1.root.json, from a source that you trust.")],
    channel: Annotated[str, typer.Option(help="Channel to follow.")] = "stable",
    mode: Annotated[str, typer.Option(help="latest: ask the repository; local: show what is in the store.")] = "latest",
    watch: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Refresh again and again until interrupted; with --json, one object per refresh."
        ),
    ] = None,
    rollback: Annotated[
        bool, typer.Option("--rollback", help="Return to the version before, and do not install this one again.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Only show what is in the store.")] = False,
    allow_http: Annotated[bool, typer.Option("--allow-http", help="Allow an address without https.")] = False,
    as_json: Json = False,
) -> None:
    """Fetch the newest release that is offered to this device, and verify its signatures."""
    from pocketrec.runtime.sync import SyncClient

    if mode not in ("latest", "local"):
        raise ConfigError(f"there is no mode {mode!r}; choose latest or local")
    if watch is not None and not watch > 0:
        raise ConfigError(f"--watch is {watch}; give seconds above 0")
    try:
        trusted = root.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"the root {root} cannot be read ({error}); use the repository's metadata/1.root.json"
        ) from error
    with _Bar() as bar:
        client = SyncClient(
            url, store, trusted, channel, "local" if status else mode, allow_http=allow_http, on_event=bar.show
        )
        with client:
            if rollback:
                client.rollback()
            if rollback or status:
                _print_status(client, as_json)
                return
            _print_refreshed(client, client.refresh(), as_json)
            if watch is not None:
                _watch(client, watch, as_json)


def _watch(client: SyncClient, seconds: float, as_json: bool) -> None:
    """Refresh until interrupted; a failure is printed, and the next refresh tries again."""
    import random
    import time

    from pocketrec.runtime.errors import SyncError

    while True:
        try:
            time.sleep(seconds * random.uniform(0.8, 1.2))
            _print_refreshed(client, client.refresh(), as_json)
        except SyncError as error:
            stderr().print(f"[yellow]{error}[/yellow]", soft_wrap=True)
        except KeyboardInterrupt:
            return


def _print_refreshed(client: SyncClient, done: Refreshed, as_json: bool) -> None:
    current = client.store.current().current
    result = {
        "version": done.release,
        "changed": done.changed,
        "bytes": done.bytes,
        "requests": done.requests,
        "how": done.how,
        "bundle": str(client.store.path(current)) if current else None,
    }
    if as_json:
        print_json(result)
    else:
        print_pairs("synced", result)


def _print_status(client: SyncClient, as_json: bool) -> None:
    known = dataclasses.asdict(client.status())
    result: dict[str, Any] = {"version": known.pop("release"), **known, "bad": list(known["bad"])}
    if as_json:
        print_json(result)
    else:
        print_pairs("store", result)


class _Bar:
    """A progress bar of the bytes of the current download."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=stderr(), transient=True)
        self._task = self._progress.add_task("checking for a release", total=None)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        from pocketrec.runtime.sync import Downloading, Failed, Verifying

        if isinstance(event, Downloading):
            self._progress.update(self._task, description=event.file, completed=event.done, total=event.total)
        elif isinstance(event, Verifying):
            self._progress.update(self._task, description="testing the bundle", total=None)
        elif isinstance(event, Failed):
            self._progress.console.print(f"[yellow]{event.error}[/yellow]", soft_wrap=True)
