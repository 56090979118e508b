"""What is known of a run's items: vectors of text, of interactions and of images, and their semantic IDs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pocketrec.distill.config import RunConfig

if TYPE_CHECKING:
    from pocketrec.distill.models.source_table import ItemSources
    from pocketrec.distill.semantic_ids.fusion import Sources


def item_sources(run: Path, config: RunConfig) -> Sources:
    """Read or make the vectors that semantic IDs are built from; of interactions, training events alone.

    :param run: a run whose stages `data` and `text` are done.
    """
    from pocketrec.distill.data.storage import load_split
    from pocketrec.distill.semantic_ids.collaborative import collaborative_vectors
    from pocketrec.distill.semantic_ids.fusion import Sources
    from pocketrec.distill.semantic_ids.text_vectors import normalise

    text = np.load(run / "text" / "vectors.npy")
    sid, split = config.sid, load_split(run / "data", config.data)
    collaborative = collaborative_vectors(
        split.train, len(text), dim=sid.collaborative_dim, window=sid.window, seed=sid.seed
    )
    images = run / "data" / "images.npy"
    return Sources(
        text=text if text.shape[1] else None,
        collaborative=collaborative,
        image=normalise(np.load(images)) if images.exists() else None,
    )


def teacher_sources(run: Path, config: RunConfig) -> ItemSources:
    """The same vectors and the semantic IDs, for a teacher.

    :param run: a run whose stages up to `sids` are done.
    """
    from pocketrec.distill.models.source_table import ItemSources
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds

    given, ids = item_sources(run, config), SemanticIds.load(run / "sids")
    return ItemSources(given.text, given.collaborative, given.image, ids.rows, ids.codes)
