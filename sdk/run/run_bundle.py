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
    from pocketrec.export.bundle import write_bundle

    ids, catalogue = SemanticIds.load(run / "sids"), load_catalogue(run / "data")
    return write_bundle(
        out,
        student,
        ids.rows,
        catalogue.item_ids,
        catalogue.titles if config.export.titles else None,
        ids.sid_space,
        beam=config.export.beam,
        headroom=config.export.branch_headroom,
        provenance=provenance or {},
        measure=measure,
        format=format,
        quantize=quantize,
    )
