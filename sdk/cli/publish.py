"""`pocketrec publish`: a bundle as a release of a repository."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketrec.cli.keys import signing_keys
from pocketrec.cli.options import Json, Keys, Repo, example
from pocketrec.cli.output import print_json, print_pairs, stderr

EXAMPLE = example(
    "pocketrec publish runs/first/export/bundle --repo site --keys keys --share 0.1",
    note="; the same with --share 1 releases it to all devices",
)


def publish(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle; it is checked first.")],
    repo: Repo,
    keys: Keys = None,
    channel: Annotated[str, typer.Option(help="Channel of the release.")] = "stable",
    share: Annotated[float, typer.Option(help="Share of the devices that get the release, 0 to 1.")] = 1.0,
    minimum_runtime: Annotated[str, typer.Option(help="Oldest version of pocketrec that can open it.")] = "0",
    keep: Annotated[int, typer.Option(help="Releases of the channel to keep.")] = 5,
    patches: Annotated[int, typer.Option(help="Number of older versions of a file to make patches from.")] = 5,
    as_json: Json = False,
) -> None:
    """Publish a bundle as the next release of a channel. The same bundle with another --share changes its share."""
    from pocketrec.export.publish.publish import PublishSettings
    from pocketrec.export.publish.publish import publish as release
    from pocketrec.export.publish.repository import Repository

    settings = PublishSettings(channel, share, minimum_runtime, keep, patches)
    with stderr().status("publishing"):
        done = release(bundle, Repository(repo), signing_keys(keys, repo), settings)
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
