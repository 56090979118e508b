"""`pocketrec inspect`: a bundle's files, checked, and its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketrec.cli.options import Bundle, Json, example
from pocketrec.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from pocketrec.runtime.bundle.bundle import Bundle as OpenBundle

EXAMPLE = example("pocketrec inspect runs/first/export/bundle --operators")


def inspect(
    bundle: Bundle,
    operators: Annotated[bool, typer.Option("--operators", help="List the ONNX operators of the graphs.")] = False,
    ort_config: Annotated[
        Path | None,
        typer.Option("--ort-config", help="Write the operators to this file, for ONNX Runtime's reduced builds."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every file of a bundle and show its manifest: shape, files, provenance, measures; and the native engine."""
    from pocketrec.runtime.bundle.bundle import open_bundle

    opened = open_bundle(bundle)
    opened.load_trie()
    manifest = opened.manifest.to_dict()
    if operators or ort_config:
        manifest["operators"] = _operators(opened, ort_config)
    if as_json:
        print_json(manifest)
        return
    print_pairs("model", manifest["model"])
    print_pairs("files", {name: f"{entry['bytes']:,} bytes" for name, entry in manifest["files"].items()})
    print_pairs("catalogue", manifest["catalogue"])
    print_pairs("trained from", {k: v for k, v in manifest["provenance"].items() if k != "config"})
    for convention, measured in manifest["metrics"].items():
        print_pairs(f"measured on the test split, {convention}", measured)
    print_pairs("native engine of this installation", _native_engine())
    if operators:
        print_pairs("operators", {domain: ", ".join(names) for domain, names in manifest["operators"].items()})


def _native_engine() -> dict[str, str]:
    """Return whether this installation has it, and if not why."""
    from rich.markup import escape

    from pocketrec.runtime.compiled import native_build

    build = native_build()
    if not build.reason:
        return {"built": f"yes, by {build.compiler or 'an unknown compiler'}", "kernels": ", ".join(build.kernels)}
    return {"built": "no", "reason": escape(build.reason), "compiler output": escape("\n".join(build.compiler_output))}


def _operators(opened: OpenBundle, ort_config: Path | None) -> dict[str, list[str]]:
    """Return operator names by domain; also written as ONNX Runtime's configuration if a file is named."""
    from pocketrec.export.operators import operators, reduced_build_config
    from pocketrec.runtime.files.atomic import atomic_write_text

    found = operators(opened)
    if ort_config:
        atomic_write_text(ort_config, reduced_build_config(found))
    return {f"{domain} {opset}": sorted(names) for (domain, opset), names in sorted(found.items())}
