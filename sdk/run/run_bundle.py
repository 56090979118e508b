"""A student of a run as a bundle: with the run's items, semantic IDs and export settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pocketrec.distill.config import RunConfig
    from pocketrec.distill.models.student import Student
    from pocketrec.export.bundle import Measure
    from pocketrec.runtime.bundle.bundle import Manifest


def write_run_bundle(
    run: Path,
    config: RunConfig,
    student: Student,
    out: Path,
    *,
    format: str = "onnx",
    quantize: str = "none",
    provenance: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
) -> Manifest:
    """Write a student of a run as a bundle; parameters as for `export.bundle.write_bundle`.

    :param run: a run whose stages `data` and `sids` are done.
    """
    from pocketrec.distill.data.storage import load_catalogue
    from pocketrec.distill.semantic_ids.semantic_ids import SemanticIds
    from pocketrec.export.bundle import BundleItems, BundleSettings, write_bundle

    ids, catalogue = SemanticIds.load(run / "sids"), load_catalogue(run / "data")
    titles = catalogue.titles if config.export.titles else None
    items = BundleItems(ids.rows, catalogue.item_ids, titles, ids.sid_space)
    settings = BundleSettings(config.export.beam, config.export.branch_headroom, format, quantize)
    return write_bundle(out, student, items, settings, provenance, measure)
