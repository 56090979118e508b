"""A session: one user's history that grows; what the model has read of it is kept.

A session always gives what `Recommender.recommend` gives for the same history. Each observation is read at the next
call, so that a call costs no more than its new items, until the history is longer than the model's: from then on the
window moves at every observation and is read again.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.bundle.bundle import Manifest
from pocketrec.runtime.bundle.manifest import REFRESHED_FILES
from pocketrec.runtime.catalogue.trie import ItemTrie
from pocketrec.runtime.control import Control
from pocketrec.runtime.engines.protocol import State
from pocketrec.runtime.errors import SessionError
from pocketrec.runtime.explain import Explanation, explain_leaves
from pocketrec.runtime.files.atomic import atomic_write, open_plain
from pocketrec.runtime.files.strict_json import parse_json
from pocketrec.runtime.recommendation import Recommendations
from pocketrec.runtime.retrieval import Query
from pocketrec.runtime.retriever import Retriever

FORMAT, VERSION = "pocketrec-session", 1
MAX_BYTES = 1 << 24
_REMEDY = "start a new session"


class Session:
    """The history of one user. Calls from several threads take turns.

    Attributes: `unknown`, ids that were observed but are not in the catalogue, each once; `renewed`, whether it was
    restored under another model than it was saved with.
    """

    def __init__(self, retriever: Retriever, history: Sequence[str] = (), renewed: bool = False) -> None:
        """Begin with a history, oldest first; most callers want `Recommender.session`."""
        self.retriever, self.renewed = retriever, renewed
        leaves, self.unknown = retriever.find_leaves(history)
        self._leaves: list[int] = leaves.tolist()  # of the items so far, oldest first
        self._read = 0  # how many of them `_state` has read
        self._state: State | None = None
        self._lock = threading.Lock()

    def observe(self, item_id: str) -> bool:
        """Add an item to the history; return whether the catalogue has it (if not, it is added to `unknown`).

        :raises ConfigError: if it is not a string.
        """
        with self._lock:
            leaf = self.retriever.leaf_of(item_id)
            if leaf >= 0:
                self._leaves.append(leaf)
            else:
                self.unknown = tuple(dict.fromkeys((*self.unknown, item_id)))
            return leaf >= 0

    def recommend(
        self,
        k: int = 10,
        exclude_seen: bool = True,
        within: ItemTrie | str | None = None,
        beam: int | None = None,
        control: Control | None = None,
    ) -> Recommendations:
        """Recommend the items most likely to come next; as `Recommender.recommend`."""
        retriever = self.retriever
        with self._lock:
            leaves = np.array(self._leaves, np.int32)
            state = self._caught_up(leaves)
            if control is None and within is None:
                found = retriever.try_fast_path(None, state, leaves, k, beam, exclude_seen)
                if found is not None:
                    return found
            return retriever.named(retriever.after_state(state, leaves, Query(k, exclude_seen, within, beam, control)))

    def explain(self, item_id: str, control: Control | None = None) -> Explanation:
        """Explain an item's score after the history so far; as `Recommender.explain`."""
        with self._lock:
            leaves = np.array(self._leaves, np.int32)
        return explain_leaves(self.retriever, leaves, item_id, control)

    def _caught_up(self, leaves: NDArray[np.int32]) -> State:
        """Let the model read the items that it has not read yet."""
        retriever, state = self.retriever, self._state
        retriever.check_open()
        longest = retriever.max_history
        if state is None or self._read < len(leaves) > longest:  # the window has moved: every item has a new position
            state = retriever.engine.read(retriever.sids(leaves[-longest:]))
        elif self._read < len(leaves):
            state = retriever.engine.read(retriever.sids(leaves[self._read :]), state)
        self._state, self._read = state, len(leaves)
        return state

    def take_state(self, other: Session) -> None:
        """Take over what the same model has read for another session, if these are still the items that it read.

        :param other: a session of the same model over an older catalogue.
        """
        ours, theirs = (s.retriever.trie.rows[np.array(s._leaves, np.int32)] for s in (self, other))
        if np.array_equal(ours[: other._read], theirs[: other._read]) and len(ours) >= other._read:
            self._state, self._read = other._state, other._read

    @property
    def history(self) -> tuple[str, ...]:
        """Ids of the known items so far, oldest first."""
        trie = self.retriever.trie
        return tuple(trie.table.ids(trie.table_rows_of(np.array(self._leaves, np.int32))))

    def to_bytes(self) -> bytes:
        """The session as bytes: its item ids, and which model it was for. Keys and values are not saved."""
        items = list(self.history)
        content = {
            "format": FORMAT,
            "version": VERSION,
            "model": model_id(self.retriever.manifest),
            "sha256": _digest(items),
            "items": items,
        }
        return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()

    def save(self, path: str | Path) -> None:
        """Write `to_bytes` atomically.

        :raises OSError: if it cannot be written; a file that was there is then untouched.
        """
        atomic_write(Path(path), [self.to_bytes()])


def restore(retriever: Retriever, source: bytes | str | Path) -> Session:
    """Continue a saved session (see `Recommender.restore_session`)."""
    items, model = read_saved(source)
    return Session(retriever, items, renewed=model != model_id(retriever.manifest))


def read_saved(source: bytes | str | Path) -> tuple[list[str], str]:
    """Return the item ids of a saved session, oldest first, and the id of the model that it was saved with.

    :raises SessionError: if it is missing, damaged, too large or of another version.
    """
    return _parse(source if isinstance(source, bytes) else _read_file(Path(source)))


def model_id(manifest: Manifest) -> str:
    """Identify a model by a hash of its files' hashes; what a refresh changes and the model card do not count."""
    files = {
        name: entry.sha256
        for name, entry in manifest.files.items()
        if name not in REFRESHED_FILES and not name.endswith(".md")
    }
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def _digest(items: list[str]) -> str:
    return hashlib.sha256(json.dumps(items).encode()).hexdigest()


def _read_file(path: Path) -> bytes:
    try:
        with open_plain(path) as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: not a valid path
        raise SessionError(f"{str(path)!r} cannot be read ({error}); {_REMEDY}") from error


def _parse(data: bytes) -> tuple[list[str], str]:
    if len(data) > MAX_BYTES:
        raise SessionError(f"the saved session has over {MAX_BYTES} bytes; {_REMEDY}")
    try:
        content: Any = parse_json(data)
    except ValueError as error:
        raise SessionError(f"the saved session is damaged ({error}); {_REMEDY}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise SessionError(f"this is not a saved session; {_REMEDY}")
    if content.get("version") != VERSION:
        raise SessionError(
            f"the saved session is of version {content.get('version')!r:.20}, and this pocketrec reads {VERSION}; "
            f"update pocketrec, or {_REMEDY}"
        )
    items, model = content.get("items"), content.get("model")
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items) or not isinstance(model, str):
        raise SessionError(f"the saved session is damaged (its items are not a list of ids); {_REMEDY}")
    if content.get("sha256") != _digest(items):
        raise SessionError(f"the saved session is damaged (its items do not match its checksum); {_REMEDY}")
    return items, model
