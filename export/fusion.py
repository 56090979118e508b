"""The weights of crowd and words beside a model, fitted for ranking on validation through the runtime that ships.

Candidates of each case are the model's best, the fused list's at middling weights and at the fitted ones, and each
expert's best. The weights are searched for ranking (`distill.evaluation.weight_search`). An expert is left out if
validation cases that the weights were not fitted on rank better without it, by more than a standard error. `seen` is
fitted last, on lists with seen items kept. The fused list is never worse on validation than the model's own; where an
expert alone is better than the fused list, the record says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pocketrec.distill.committee.members import SHARPNESS, GraphMember, WordsMember
from pocketrec.distill.data.splits import EvalSet
from pocketrec.distill.evaluation.baselines import history_weights
from pocketrec.distill.evaluation.validation import fitting_convention
from pocketrec.distill.evaluation.weight_search import (
    BAGS,
    SHOWN,
    Candidates,
    bagged,
    held_out_gains,
    surely_better,
    unique_candidates,
)
from pocketrec.distill.progress import SILENT, Progress
from pocketrec.export.experts import BundleExperts
from pocketrec.runtime.experts.fusion import Experts
from pocketrec.runtime.experts.weights import MAX_WEIGHT, FusionWeights
from pocketrec.runtime.recommender import Recommender

logger = logging.getLogger(__name__)

OWN: Final = 120  # candidates of the model alone
FUSED: Final = 100  # candidates of a fused list
EXPERT: Final = 30  # candidates of crowd and words each
BLOCK: Final = 256  # cases whose experts score all items at once
RECENT: Final = 100  # newest items of a history that are candidates where seen items are kept
TRIED: Final = 4  # searches that are averaged for each choice of experts; see `weight_search.BAGS`
MIDDLING: Final = FusionWeights(crowd=0.5, words=8.0)
RECENCIES: Final = (0.3, 0.7)  # tried in place of the default
MODEL, CROWD, WORDS, SEEN = range(4)  # features


@dataclass(frozen=True)
class FittedFusion:
    """Fitted weights, and why they are these.

    ndcg: ndcg@10 on validation by system, in the convention: the student, each expert alone, "crowd and words" without
    the student, and "fused". convention: "seen kept" or "seen excluded". left_out: why, by expert without a weight.
    """

    weights: FusionWeights
    ndcg: dict[str, float]
    convention: str
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def notes(self) -> list[str]:
        """What the user should know, in sentences."""
        out = [f"The bundle leaves out {name}: {reason}." for name, reason in self.left_out.items()]
        alone = max((name for name in self.ndcg if name not in ("student", "fused")), key=lambda name: self.ndcg[name])
        if self.ndcg[alone] > self.ndcg["fused"]:
            out.append(
                f"Without the student, {alone} would have an ndcg@10 of {self.ndcg[alone]:.4f} on validation; the "
                f"bundle has {self.ndcg['fused']:.4f}. Train the student longer, or a larger one."
            )
        return out

    def record(self) -> dict[str, Any]:
        """Return what the run keeps beside the weights."""
        return {
            "valid_ndcg": {"convention": self.convention, **self.ndcg},
            "left_out": self.left_out,
            "notes": self.notes,
        }


def fit_fusion(
    recommender: Recommender,
    experts: BundleExperts,
    item_ids: Sequence[str],
    cases: EvalSet,
    progress: Progress = SILENT,
) -> FittedFusion:
    """Fit the weights of crowd and words, and of seen items where they are kept.

    :param recommender: of the model alone.
    :param experts: by catalogue row; their weights give what is not fitted.
    :param item_ids: ids by catalogue row.
    :param cases: validation cases, of catalogue rows.
    """
    convention = fitting_convention(cases)
    with progress.track("fitting the experts' weights", 4) as advance:
        scores = _Scores(recommender, experts, item_ids, cases)
        scores.search(replace(experts.weights, crowd=MIDDLING.crowd, words=MIDDLING.words))
        advance(1)
        kept, has_words = _kept(convention), experts.words is not None
        candidates = scores.candidates(convention)
        free = _useful(candidates, (CROWD, WORDS) if has_words else (CROWD,), kept)
        found = _fit(candidates, free, kept)
        advance(1)
        if free:
            scores.search(scores.weights(found))
            candidates = scores.tune_recency(scores.candidates(convention), found)
        found = candidates.best((_fit(candidates, free, kept), _fit(candidates, [], kept)), SHOWN)
        advance(1)
        if convention == "seen excluded":
            found = scores.candidates("seen kept").climb(found, [SEEN])
        advance(1)
    return _record(scores.weights(found), candidates, found, convention, has_words)


def _record(
    weights: FusionWeights,
    candidates: Candidates,
    found: Sequence[float],
    convention: str,
    has_words: bool,
) -> FittedFusion:
    """Measure the members alone, and say what the user should know."""
    ndcg = {"student": candidates.ndcg(_alone(MODEL)), "crowd": candidates.ndcg(_alone(CROWD))}
    if has_words:
        ndcg["words"] = candidates.ndcg(_alone(WORDS))
        ndcg["crowd and words"] = candidates.ndcg(candidates.climb(_alone(CROWD), [CROWD, WORDS]))
    ndcg["fused"] = candidates.ndcg(found)
    left_out = {} if has_words else {"words": "the catalogue has no texts"}
    for name, weight in (("crowd", weights.crowd), ("words", weights.words)):
        if not weight and name not in left_out:
            left_out[name] = "the ranking of validation cases is not better with it"
    fitted = FittedFusion(weights, ndcg, convention, left_out)
    for note in fitted.notes:
        logger.warning("%s", note)
    return fitted


class _Scores:
    """Scores of the cases' candidates: the model's own by item, as searches find them, and the experts'."""

    def __init__(
        self, recommender: Recommender, experts: BundleExperts, item_ids: Sequence[str], cases: EvalSet
    ) -> None:
        self.recommender, self.experts, self.cases, self.n_items = recommender, experts, cases, len(item_ids)
        self.table = recommender.trie.table.find(list(item_ids)).astype(np.int32)  # catalogue row -> table row
        self.row = np.empty_like(self.table)
        self.row[self.table] = np.arange(len(self.table), dtype=np.int32)
        self.graph = GraphMember.of_crowd(experts.crowd)
        self.words = None if experts.words is None else WordsMember(experts.words)
        self.recency = [experts.weights.crowd_recency, experts.weights.words_recency]
        self.near = self._near()
        self.rows: list[NDArray[np.int32]] = []  # catalogue rows, and the model's scores of them, one entry a search
        self.own: list[NDArray[np.float32]] = []
        self._search(recommender, None, OWN)

    def search(self, weights: FusionWeights) -> None:
        """Add the best of the fused lists at some weights, so that items which experts lift have their own scores."""
        crowd, words = self.experts.in_order_of(self.recommender.trie, self.recommender.trie.table.ids(self.table))
        experts = Experts(crowd, words, replace(weights, seen=0.0), self.n_items)
        alone = self.recommender
        self._search(Recommender(alone.engine, alone.trie, alone.manifest, None, experts), experts, FUSED)

    def _search(self, recommender: Recommender, experts: Experts | None, k: int) -> None:
        floor = np.zeros(self.n_items, np.float32)
        if experts is not None:
            floor[self.recommender.trie.table_rows] = experts.floor(self.recommender.trie).leaves
        rows = np.full((len(self.cases), min(k, self.n_items)), -1, np.int32)
        own = np.zeros(rows.shape, np.float32)
        for case, history in enumerate(self.cases.histories):
            seen = self.table[history]
            found, score = recommender.recommend_rows(seen, k=k, beam=k, exclude_seen=experts is not None)
            if experts is not None:
                items, gains = experts.gains(seen)
                term = floor[found]
                place = np.minimum(np.searchsorted(items, found), max(len(items) - 1, 0))
                if len(items):
                    term = term + np.where(items[place] == found, gains[place], 0)
                score = score - term
            rows[case, : len(found)], own[case, : len(found)] = self.row[found], score
        self.rows.append(rows)
        self.own.append(own)

    def _near(self) -> NDArray[np.int32]:
        """Return each expert's best items, catalogue rows [n, C]."""
        out = []
        for at in range(0, len(self.cases), BLOCK):
            part = [score for score in (self._crowd(at), self._words(at)) if score is not None]
            k = min(EXPERT, self.n_items)
            out.append(np.concatenate([np.argpartition(-s, k - 1, 1)[:, :k] for s in part], 1).astype(np.int32))
        return np.concatenate(out)

    def _crowd(self, at: int) -> NDArray[np.float32]:
        histories = self.cases.histories.take(slice(at, at + BLOCK))
        return self.graph.log_probabilities(history_weights(histories, self.n_items, self.recency[0]))

    def _words(self, at: int) -> NDArray[np.float32] | None:
        if self.words is None:
            return None
        histories = self.cases.histories.take(slice(at, at + BLOCK)).last(self.experts.weights.words_items)
        return self.words.cosines(history_weights(histories, self.n_items, self.recency[1]))

    def candidates(self, convention: str) -> Candidates:
        """Return all candidates with their features."""
        kept = convention == "seen kept"
        histories = self.cases.histories
        parts = [
            self.cases.targets[:, None],
            *self.rows,
            self.near,
            *([histories.last(RECENT).padded()] if kept else []),
        ]
        rows, absent = unique_candidates(np.concatenate(parts, 1), self.n_items)
        features = np.zeros((4, *rows.shape), np.float32)
        in_history = np.zeros(rows.shape, bool)
        for case, history in enumerate(histories):
            in_history[case] = np.isin(rows[case], history)
            features[MODEL, case] = self._own(case, rows[case])
        if kept:
            features[SEEN] = in_history
        else:
            absent |= in_history
        self.chosen = rows
        for feature in (CROWD, WORDS):
            features[feature] = self._expert(feature)
        return Candidates(features, absent, signed=(SEEN,))

    def _expert(self, feature: int) -> NDArray[np.float32]:
        """Return an expert's scores of the candidates chosen last, float32 [n, C], in nats."""
        out = np.zeros(self.chosen.shape, np.float32)
        for at in range(0, len(out), BLOCK):
            score = self._crowd(at) if feature == CROWD else self._words(at)
            if score is not None:
                out[at : at + BLOCK] = np.take_along_axis(score, self.chosen[at : at + BLOCK], 1)
        out *= np.float32(SHARPNESS if feature == WORDS else 1)
        return out

    def _own(self, case: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the model's scores of items; those that no search found lie below the model's own list."""
        known = np.concatenate([found[case] for found in self.rows])
        score = np.concatenate([own[case] for own in self.own])[known >= 0]
        known = known[known >= 0]
        least = self.own[0][case][self.rows[0][case] >= 0].min(initial=0.0) - 1.0
        order = np.argsort(known, kind="stable")
        known, score = known[order], score[order]
        if not len(known):
            return np.full(len(rows), least, np.float32)
        place = np.minimum(np.searchsorted(known, rows), len(known) - 1)
        return np.where(known[place] == rows, score[place], least).astype(np.float32)

    def weights(self, found: Sequence[float]) -> FusionWeights:
        """Return what was found as the device takes it."""
        crowd, words, seen = (float(np.clip(found[i], -MAX_WEIGHT, MAX_WEIGHT)) for i in (CROWD, WORDS, SEEN))
        words = min(words * SHARPNESS, MAX_WEIGHT)
        return replace(
            self.experts.weights, crowd=crowd, words=words, seen=seen,
            crowd_recency=self.recency[0], words_recency=self.recency[1],
        )  # fmt: skip

    def tune_recency(self, candidates: Candidates, found: list[float]) -> Candidates:
        """Try other recencies of the experts in use; keep one that is better by more than a standard error, held out.

        :param candidates: chosen last. found: their weights.
        :returns: the candidates with the recencies that were kept.
        """
        free = [i for i in (CROWD, WORDS) if found[i]]
        fit = partial(Candidates.climb, start=found, free=free, rounds=1)
        for place, feature in enumerate((CROWD, WORDS)):
            if feature not in free:
                continue
            now, best = self.recency[place], held_out_gains(candidates, fit)
            for recency in RECENCIES:
                self.recency[place] = recency
                features = candidates.features.copy()
                features[feature] = self._expert(feature)
                other = replace(candidates, features=features)
                gains = held_out_gains(other, fit)
                if gains.mean() > best.mean() and surely_better(gains, best):
                    now, best, candidates = recency, gains, other
            self.recency[place] = now
        return candidates


def _useful(candidates: Candidates, experts: Sequence[int], kept: Sequence[int]) -> list[int]:
    """Return the experts without which held-out cases do not surely rank better."""
    fit = partial(_fit, kept=kept, bags=TRIED)
    best = list(experts)
    gains = held_out_gains(candidates, partial(fit, experts=best))
    fewer = [[expert] for expert in experts] if len(experts) > 1 else []
    for subset in (*fewer, list[int]()):
        tried = held_out_gains(candidates, partial(fit, experts=subset))
        if surely_better(tried, gains):
            best, gains = subset, tried
    return best


def _fit(candidates: Candidates, experts: Sequence[int], kept: Sequence[int], bags: int = BAGS) -> list[float]:
    """Return the weights of some experts, means over searches on random halves; the model's weight is 1."""
    if not experts and not kept:
        return _alone(MODEL)
    middling = [1.0, MIDDLING.crowd, MIDDLING.words / SHARPNESS, 0.0]
    start = [weight if i in (MODEL, *experts) else 0.0 for i, weight in enumerate(middling)]
    return bagged(candidates, partial(Candidates.climb, start=start, free=[*experts, *kept]), bags)


def _kept(convention: str) -> tuple[int, ...]:
    """The weight of seen items, where they are in the lists that the experts are fitted on."""
    return (SEEN,) if convention == "seen kept" else ()


def _alone(feature: int) -> list[float]:
    return [float(i == feature) for i in range(4)]
