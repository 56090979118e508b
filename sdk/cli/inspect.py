"""`pocketrec inspect`: a bundle's files, checked, its manifest, and the engine that this installation has for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pocketrec.cli.options import Bundle, Json, example
from pocketrec.cli.output import print_json, print_pairs

if TYPE_CHECKING:
    from pocketrec.runtime.bundle.bundle import Bundle as OpenBundle
    from pocketrec.runtime.compiled import NativeBuild

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
    """Check every file of a bundle and show its manifest: shape, files, provenance, measures.

    Also shows the engine that runs this bundle by default, and why this installation has no native engine if it is
    missing.
    """
    from pocketrec.runtime.bundle.bundle import open_bundle
    from pocketrec.runtime.compiled import native_build
    from pocketrec.runtime.engines.registry import fastest_engine

    opened = open_bundle(bundle)
    opened.load_trie()
    manifest = opened.manifest.to_dict()
    if operators or ort_config:
        manifest["operators"] = _operators(opened, ort_config)
    engine, build = fastest_engine(opened), native_build()
    if as_json:
        native = {"available": not build.reason, **build._asdict()}
        print_json({**manifest, "engine": engine, "native_engine": native})
        return
    print_pairs("model", manifest["model"])
    print_pairs("files", {name: f"{entry['bytes']:,} bytes" for name, entry in manifest["files"].items()})
    print_pairs("catalogue", manifest["catalogue"])
    print_pairs("trained from", {k: v for k, v in manifest["provenance"].items() if k != "config"})
    measures = dict(manifest["metrics"])
    alone = measures.pop("alone", {})
    for convention, measured in measures.items():
        print_pairs(f"measured on the test split, {convention}", measured)
    for name, by_convention in alone.items():
        for convention, measured in by_convention.items():
            print_pairs(f"the {name} alone, {convention}", measured)
    print_pairs("engine", {"of this bundle": engine})
    print_pairs("native engine of this installation", _native_engine(build))
    if operators:
        print_pairs("operators", {domain: ", ".join(names) for domain, names in manifest["operators"].items()})


def _native_engine(build: NativeBuild) -> dict[str, str]:
    """Return what the table says of it: compiler and instruction sets, or why it is missing."""
    from rich.markup import escape

    if not build.reason:
        compiler = build.compiler or "an unknown compiler"
        return {"available": f"yes, built by {compiler}", "instruction sets": ", ".join(build.kernels)}
    output = escape("\n".join(build.compiler_output))
    return {"available": "no", "reason": escape(build.reason), **({"compiler output": output} if output else {})}


def _operators(opened: OpenBundle, ort_config: Path | None) -> dict[str, list[str]]:
    """Return operator names by domain; also written as ONNX Runtime's configuration if a file is named."""
    from pocketrec.export.operators import operators, reduced_build_config
    from pocketrec.runtime.files.atomic import atomic_write_text

    found = operators(opened)
    if ort_config:
        atomic_write_text(ort_config, reduced_build_config(found))
    return {f"{domain} {opset}": sorted(names) for (domain, opset), names in sorted(found.items())}
