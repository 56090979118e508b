"""`pocketrec recommend`: what a bundle recommends after a history."""

from __future__ import annotations

from typing import Annotated

import typer

from pocketrec.cli.options import Bundle, Engine, Json, example
from pocketrec.cli.output import print_json, print_recommendations, stderr

EXAMPLE = example("pocketrec recommend runs/first/export/bundle --history 318,296 -k 5")


def recommend(
    bundle: Bundle,
    history: Annotated[str, typer.Option(help="Item ids, oldest first, separated by commas; may be empty.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many items.")] = 10,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Items of the history may be recommended again.")
    ] = False,
    engine: Engine = None,
    as_json: Json = False,
) -> None:
    """Recommend items for a history."""
    from pocketrec.runtime.recommender import Recommender

    ids = [part.strip() for part in history.split(",") if part.strip()]
    with Recommender.load(bundle, engine=engine) as recommender:
        found = recommender.recommend(ids, k=k, exclude_seen=not include_seen)
    if as_json:
        items = [{"item_id": r.item_id, "score": r.score, "title": r.title} for r in found]
        print_json({"items": items, "unknown": list(found.unknown)})
        return
    print_recommendations("recommended", found)
    if found.unknown:
        stderr().print(f"[yellow]not in the catalogue, skipped:[/yellow] {', '.join(found.unknown)}")
