"""A client of a published repository that is python-tuf's own, so that tests of publishing do not trust our reading."""

from __future__ import annotations

import json

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater


class Files(FetcherInterface):
    """Reads a repository's files as a web server would hand them out."""

    def __init__(self, folder):
        self.folder = folder

    def _fetch(self, url):
        path = self.folder / url.removeprefix("file://")
        if not path.is_file():
            raise DownloadHTTPError("not found", 404)
        yield path.read_bytes()


class Reader:
    """A client with a store of its own, which begins with the first root."""

    def __init__(self, repo, folder):
        self.repo, self.folder = repo, folder
        self.root = (repo / "metadata" / "1.root.json").read_bytes()
        folder.mkdir()

    def refresh(self):
        """All that is signed now: target's name -> bytes, each fetched and checked."""
        updater = Updater(
            str(self.folder),
            "file://metadata",
            str(self.folder),
            "file://targets",
            Files(self.repo),
            bootstrap=self.root,
        )
        updater.refresh()
        signed = json.loads((self.folder / "targets.json").read_bytes())["signed"]["targets"]
        found = {}
        for name in signed:
            updater.download_target(updater.get_targetinfo(name), str(self.folder / "file"))
            found[name] = (self.folder / "file").read_bytes()
        return found


def release_files(bundle):
    return {path.name: path.read_bytes() for path in bundle.iterdir()}


def files_of(found, channel, release):
    prefix = f"{channel}/{release}/"
    return {
        name[len(prefix) :]: data for name, data in found.items() if name.startswith(prefix) and ".from-" not in name
    }
