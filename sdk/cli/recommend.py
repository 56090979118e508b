"""`pocketrec recommend`: what a bundle recommends after a history."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pocketrec.cli.options import Bundle, Engine, Json, example
from pocketrec.cli.output import print_json, print_recommendations, stderr, stdout

EXAMPLE = example("pocketrec recommend runs/first/export/bundle --history 318,296 -k 5")


def recommend(
    bundle: Bundle,
    history: Annotated[str, typer.Option(help="Item ids, oldest first, separated by commas; may be empty.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Items of the history may be recommended again.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option("--explain", help="Say why each item is recommended; slower by a call for each history item."),
    ] = False,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Recommend items for a history."""
    from pocketrec.runtime.recommender import Recommender

    ids = [part.strip() for part in history.split(",") if part.strip()]
    with Recommender.load(bundle, engine=engine) as recommender:
        found = recommender.recommend(ids, k=k, exclude_seen=not include_seen)
        why = [recommender.explain(ids, r.item_id) for r in found] if explain else []
    if as_json:
        items: list[dict[str, Any]] = [{"item_id": r.item_id, "score": r.score, "title": r.title} for r in found]
        for item, one in zip(items, why, strict=False):
            item["shares"] = {part.name: part.share for part in one.parts}
            item["history"] = dict(one.drivers)
            item["why"] = one.sentence
        print_json({"items": items, "unknown": list(found.unknown)})
        return
    print_recommendations("recommended", found)
    for n, one in enumerate(why, start=1):
        shares = ", ".join(f"{part.name} {part.share:.0%}" for part in one.parts)
        stdout().print(f"{n}. {one.sentence} ({shares})", soft_wrap=True, markup=False, highlight=False)
    if found.unknown:
        stderr().print(f"[yellow]not in the catalogue, skipped:[/yellow] {', '.join(found.unknown)}")
