"""How crowd and words are joined with the model: a few fitted numbers of the manifest."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

MAX_WEIGHT: Final = 1e3
MAX_WORDS_ITEMS: Final = 255
OPTIONAL: Final = ("seen", "tenth", "tenth_model")  # older manifests do not have them


@dataclass(frozen=True)
class FusionWeights:
    """How the experts are joined (see `pocketrec.runtime.experts.fusion`); fitted on validation.

    crowd: b, words: a, both from 0 to MAX_WEIGHT; 0 leaves the expert out. popular: share of the crowd's probability
    that goes by popularity alone, in (0, 1). crowd_recency, words_recency: weight of an item of the history relative to
    the one after it, in (0, 1]. words_items: number of newest items whose words count, 1 to MAX_WORDS_ITEMS. seen: from
    -MAX_WEIGHT to MAX_WEIGHT, added to the score of every item of the whole history where these may come back. tenth:
    the mean score of the tenth item of a list, tenth_model: the model's share of it, both from -MAX_WEIGHT to
    MAX_WEIGHT and measured by `catalog refresh` for the scores of cold items (`Experts.stand_ins`); 0: not measured.
    """

    crowd: float = 0.0
    words: float = 0.0
    popular: float = 0.1
    crowd_recency: float = 0.5
    words_recency: float = 0.5
    words_items: int = 3
    seen: float = 0.0
    tenth: float = 0.0
    tenth_model: float = 0.0

    @property
    def active(self) -> bool:
        """Whether they change any score."""
        return bool(self.crowd or self.words or self.seen)

    def fault(self) -> str:
        """Say what is wrong with the numbers; empty: nothing."""
        for name, value in asdict(self).items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                return f"{name} is not a number"
        if not (0 <= self.crowd <= MAX_WEIGHT and 0 <= self.words <= MAX_WEIGHT):
            return f"crowd or words is not from 0 to {MAX_WEIGHT:.0f}"
        for name in OPTIONAL:
            if not abs(getattr(self, name)) <= MAX_WEIGHT:
                return f"{name} is not from -{MAX_WEIGHT:.0f} to {MAX_WEIGHT:.0f}"
        if not 0 < self.popular < 1:
            return "popular is not between 0 and 1"
        if not (0 < self.crowd_recency <= 1 and 0 < self.words_recency <= 1):
            return "a recency is not above 0 and at most 1"
        if not isinstance(self.words_items, int) or not 1 <= self.words_items <= MAX_WORDS_ITEMS:
            return f"words_items is not a whole number from 1 to {MAX_WORDS_ITEMS}"
        return ""
