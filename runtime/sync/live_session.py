"""A session that goes on over swaps of the version.

Under the same model, what the model has read is kept as long as every item still has its semantic ID. Under another
model the history is read again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pocketrec.runtime.explain import Explanation
from pocketrec.runtime.recommendation import Recommendations
from pocketrec.runtime.recommender import Recommender
from pocketrec.runtime.session import Session, model_id
from pocketrec.runtime.sync.versions import LiveControl, OpenVersions


class LiveSession:
    """One user's history that grows, on whatever version is current. Calls from several threads take turns.

    Attributes: `renewed`, whether the history was read again under another model, since a swap or since it was saved.
    """

    def __init__(self, versions: OpenVersions, inner: Session, observed: list[str]) -> None:
        """Begin; apps call `LiveRecommender.session`.

        :param inner: the session on the current version, or on one before it.
        :param observed: ids of all items so far, known or not, oldest first.
        """
        self._versions, self._inner, self._observed = versions, inner, observed
        self._lock = threading.Lock()
        self.renewed = inner.renewed

    def observe(self, item_id: str) -> bool:
        """Add an item to the history; return whether the current catalogue has it."""
        with self._current() as session:
            known = session.observe(item_id)
            self._observed.append(item_id)
            return known

    def recommend(
        self,
        k: int = 10,
        exclude_seen: bool = True,
        within: str | None = None,
        beam: int | None = None,
        control: LiveControl | None = None,
    ) -> Recommendations:
        """Recommend the items most likely to come next (see `Session.recommend`)."""
        with self._lock, self._versions.pinned() as version:
            session = self._on(version.recommender)
            return session.recommend(k, exclude_seen, within, beam, version.prepared(control))

    def explain(self, item_id: str, control: LiveControl | None = None) -> Explanation:
        """Explain an item's score after the history so far (see `Session.explain`)."""
        with self._lock, self._versions.pinned() as version:
            return self._on(version.recommender).explain(item_id, version.prepared(control))

    @contextmanager
    def _current(self) -> Iterator[Session]:
        """Give the session on the current version, to this thread alone."""
        with self._lock, self._versions.pinned() as version:
            yield self._on(version.recommender)

    def _on(self, recommender: Recommender) -> Session:
        """Return the session on a version; after a swap, it is moved there first."""
        retriever = recommender.retriever
        if self._inner.retriever is not retriever:
            same = model_id(self._inner.retriever.manifest) == model_id(retriever.manifest)
            fresh = Session(retriever, self._observed, renewed=not same)
            if same:
                fresh.take_state(self._inner)
            self._inner, self.renewed = fresh, self.renewed or not same
        return self._inner

    @property
    def history(self) -> tuple[str, ...]:
        """Ids of the items so far that the current catalogue has, oldest first."""
        with self._current() as session:
            return session.history

    @property
    def unknown(self) -> tuple[str, ...]:
        """Ids of the items so far that the current catalogue lacks, each once."""
        with self._current() as session:
            return session.unknown

    def to_bytes(self) -> bytes:
        """Return the session as bytes (see `Session.to_bytes`)."""
        with self._current() as session:
            return session.to_bytes()

    def save(self, path: str | Path) -> None:
        """Write `to_bytes` atomically (see `Session.save`)."""
        with self._current() as session:
            session.save(path)
