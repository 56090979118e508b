"""JSON from untrusted files: only documents with one meaning are accepted; every fault is a ValueError."""

from __future__ import annotations

import json
from typing import Any, NoReturn


def parse_json(content: bytes) -> Any:
    """Parse UTF-8 JSON whose objects have distinct names and whose numbers are numbers; the caller bounds its length.

    :raises ValueError: on anything else; on NaN, Infinity and too deep a nesting, too.
    """
    try:
        return json.loads(content.decode(), parse_constant=_refuse_constant, object_pairs_hook=_distinct)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("an object has a name twice")
    return data
