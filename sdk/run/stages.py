"""Resumable stages: what is finished and unchanged is not done again.

A stage declares the configuration sections and the files it depends on. Its key is the hash of these; when the key
in its `stage.json` is the same and its outputs are all there with the hashes noted, it is skipped. A stage works in
its own folder and writes `stage.json` last, so an interrupted one is simply not finished (long stages keep their
own checkpoints inside).
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

from pocketrec.processes import Processes
from pocketrec.run.run_files import write_text
from pocketrec.runtime.errors import ConfigError

State = Literal["done", "to do", "changed"]
STATE_FILE = "stage.json"
ALONE = Processes()


@dataclass(frozen=True)
class Stage:
    """One step of a run.

    sections: configuration sections it reads, or single settings ("section.name"). needs: files it reads, relative to
    the run's folder. makes: files or folders it leaves in its own folder. run: does the work, given that folder.
    together: all processes run it; otherwise the main one alone.
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
    """Where a stage stands; seconds it took when it was last done."""

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
    ) -> None:
        """Prepare.

        :param folder: the run; created when needed.
        :param config: the whole configuration as plain dictionaries.
        :param external: hashes of files from outside the run, by the names under which stages need them.
        """
        self.folder, self.stages, self.config, self.external = folder, tuple(stages), config, external
        self.processes = processes

    def status(self) -> list[StageStatus]:
        """Tell of every stage whether it would be skipped."""
        out, upstream_fresh = [], True
        for stage in self.stages:
            noted = self._noted(stage)
            state: State = "to do" if noted is None else "done"
            if noted is not None and not (upstream_fresh and self._is_done(stage, noted)):
                state = "changed"
            upstream_fresh = upstream_fresh and state == "done"
            out.append(StageStatus(stage.name, stage.does, state, noted["seconds"] if noted else None))
        return out

    def run(self, start: str | None = None, on_stage: Callable[[Stage, bool], None] = lambda s, skipped: None) -> None:
        """Run what is not done; from stage `start` on, everything, and from its beginning.

        :param on_stage: told of each stage before it runs, and whether it is skipped.
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

    def seconds(self) -> dict[str, float]:
        """Seconds each finished stage took."""
        return {s.name: noted["seconds"] for s in self.stages if (noted := self._noted(s)) is not None}

    def _do(self, stage: Stage, fresh: bool) -> None:
        folder, key = self.folder / stage.name, self._key(stage)
        begun = folder / "begun.json"
        start = time.monotonic()
        self.processes.wait()  # everybody has seen that the stage is to do
        if self.processes.main:
            # Half-finished work is only worth resuming if it was begun with the same inputs.
            if fresh or not begun.exists() or begun.read_text(encoding="utf-8") != key:
                shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True, exist_ok=True)
            begun.write_text(key, encoding="utf-8")
        self.processes.wait()
        if self.processes.main or stage.together:
            stage.run(folder)
        self.processes.wait()
        if self.processes.main:
            outputs = {name: hash_path(folder / name) for name in stage.makes}
            note = {"key": key, "seconds": round(time.monotonic() - start, 2), "outputs": outputs}
            write_text(folder / STATE_FILE, json.dumps(note, indent=1))
        self.processes.wait()

    def _noted(self, stage: Stage) -> dict[str, Any] | None:
        try:
            noted = json.loads((self.folder / stage.name / STATE_FILE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return noted if isinstance(noted, dict) else None

    def _is_done(self, stage: Stage, noted: Mapping[str, Any]) -> bool:
        folder = self.folder / stage.name
        whole = all((folder / n).exists() and hash_path(folder / n) == h for n, h in noted["outputs"].items())
        return whole and noted["key"] == self._key(stage)

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
        return hash_path(path) if path.exists() else "missing"


def hash_path(path: Path) -> str:
    """Return the sha256 of a file, or of a folder's names and files."""
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(file.relative_to(path).as_posix().encode() if path.is_dir() else b"")
        with file.open("rb") as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
    return digest.hexdigest()
