"""Resumable stages: a stage that is finished and whose inputs are unchanged is skipped.

A stage declares the configuration sections and the files that it reads. Its key is the hash of both. A stage is done
if the key in its `stage.json` is the same and its outputs are there with the hashes noted in it. A stage works in its
own folder and writes `stage.json` last, so an interrupted stage is not done; long stages keep checkpoints and resume.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pocketrec.processes import ALONE, Processes
from pocketrec.run.run import write_json
from pocketrec.runtime.errors import ConfigError
from pocketrec.runtime.files.atomic import FileState, atomic_write_text, file_state

State = Literal["done", "to do", "changed"]
STATE_FILE, BEGUN_FILE = "stage.json", "begun.json"


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    sections: configuration sections that it reads, or single settings ("section.name"). needs: files that it reads,
    relative to the run's folder. makes: files or folders that it writes in its own folder. run: does the work, given
    the stage's folder. together: every process runs it; otherwise only the main one.
    """

    name: str
    does: str
    sections: tuple[str, ...]
    needs: tuple[str, ...]
    makes: tuple[str, ...]
    run: Callable[[Path], None]
    together: bool = False


@dataclass(frozen=True)
class StageStatus:
    """State of a stage, and the seconds that it took when it was last done."""

    name: str
    does: str
    state: State
    seconds: float | None


class StageRunner:
    """Runs stages in order inside a run's folder."""

    def __init__(
        self,
        folder: Path,
        stages: Sequence[Stage],
        config: Mapping[str, Any],
        external: Mapping[str, str],
        processes: Processes = ALONE,
        hashes: FileHashes | None = None,
    ) -> None:
        """Prepare.

        :param folder: the run; created when needed.
        :param config: the whole configuration as plain dictionaries.
        :param external: hashes of files from outside the run, by the names that stages give them in `needs`.
        :param hashes: hashes that are known already.
        """
        self.folder, self.stages, self.config, self.external = folder, tuple(stages), config, external
        self.processes, self.hashes = processes, hashes or FileHashes()

    def status(self) -> list[StageStatus]:
        """Return the state of every stage: only one that is done would be skipped."""
        out, upstream_fresh = [], True
        for stage in self.stages:
            noted = self._noted(stage)
            state: State = "to do" if noted is None else "done"
            if noted is not None and not (upstream_fresh and self._is_done(stage, noted)):
                state = "changed"
            upstream_fresh = upstream_fresh and state == "done"
            out.append(StageStatus(stage.name, stage.does, state, noted["seconds"] if noted else None))
        return out

    def run(
        self,
        start: str | None = None,
        on_stage: Callable[[Stage, bool], None] = lambda s, skipped: None,
        last: str | None = None,
    ) -> None:
        """Run every stage that is not done.

        :param start: run this stage and all after it from scratch, done or not.
        :param on_stage: called with each stage before it runs, and whether it is skipped.
        :param last: stop after this stage; None: run all.
        :raises ConfigError: if there is no stage of that name.
        """
        names = [stage.name for stage in self.stages]
        if start is not None and start not in names:
            raise ConfigError(f"there is no stage {start!r}; the stages are {', '.join(names)}")
        forced = False
        for stage in self.stages:
            forced = forced or stage.name == start
            noted = self._noted(stage)
            skipped = not forced and noted is not None and self._is_done(stage, noted)
            on_stage(stage, skipped)
            if not skipped:
                self._do(stage, fresh=forced)
            if stage.name == last:
                break

    def seconds(self) -> dict[str, float]:
        """Return the seconds that each finished stage took, by name."""
        return {s.name: noted["seconds"] for s in self.stages if (noted := self._noted(s)) is not None}

    def _do(self, stage: Stage, fresh: bool) -> None:
        folder, key = self.folder / stage.name, self._key(stage)
        begun = folder / BEGUN_FILE
        start = time.monotonic()
        self.processes.wait()  # until every process has decided that the stage must run
        if self.processes.main:
            # Unfinished work is resumed only if its inputs were the same.
            if fresh or not begun.exists() or begun.read_text(encoding="utf-8") != key:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write_text(begun, key)
        self.processes.wait()
        if self.processes.main or stage.together:
            stage.run(folder)
        self.processes.wait()
        if self.processes.main:
            outputs = {name: self.hashes.of(folder / name) for name in stage.makes}
            note = {"key": key, "seconds": round(time.monotonic() - start, 2), "outputs": outputs}
            write_json(folder / STATE_FILE, note)
        self.processes.wait()

    def _noted(self, stage: Stage) -> dict[str, Any] | None:
        try:
            noted = json.loads((self.folder / stage.name / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return noted if isinstance(noted, dict) and noted.keys() >= {"key", "seconds", "outputs"} else None

    def _is_done(self, stage: Stage, noted: Mapping[str, Any]) -> bool:
        folder = self.folder / stage.name
        intact = all(
            (folder / name).exists() and self.hashes.of(folder / name) == digest
            for name, digest in noted["outputs"].items()
        )
        return intact and noted["key"] == self._key(stage)

    def _key(self, stage: Stage) -> str:
        sections = {name: self._setting(name) for name in stage.sections}
        inputs = {name: self.external.get(name) or self._input_hash(name) for name in stage.needs}
        return hashlib.sha256(json.dumps([sections, inputs], sort_keys=True).encode()).hexdigest()

    def _setting(self, name: str) -> Any:
        value: Any = self.config
        for part in name.split("."):
            value = value[part]
        return value

    def _input_hash(self, name: str) -> str:
        path = self.folder / name
        return self.hashes.of(path) if path.exists() else "missing"


class FileHashes:
    """Hashes of files and folders, as `hash_path` gives them; a file is read again only if it changed."""

    def __init__(self) -> None:
        """Start without any."""
        self._known: dict[Path, tuple[list[tuple[str, FileState]], str]] = {}

    def of(self, path: Path) -> str:
        """Return the hash of a file or folder that exists."""
        state = [(file.relative_to(path).as_posix(), file_state(file.stat())) for file in _files(path)]
        if path not in self._known or self._known[path][0] != state:
            self._known[path] = state, hash_path(path)
        return self._known[path][1]


def hash_path(path: Path) -> str:
    """Return the SHA-256 of a file, or of the names and contents of a folder's files, as hex digits."""
    digest = hashlib.sha256()
    for file in _files(path):
        digest.update(file.relative_to(path).as_posix().encode() if path.is_dir() else b"")
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()


def _files(path: Path) -> list[Path]:
    """The file, or all files of the folder in a fixed order."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
