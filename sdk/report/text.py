"""How the run report writes numbers: counts, shares, bytes, durations, changes.

Pure. A missing value is written "–", a minus is a minus sign (not a hyphen), and no line breaks between a number and
its unit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

NBSP = "\N{NO-BREAK SPACE}"
MINUS = "\N{MINUS SIGN}"
NONE = "–"
NAMES = {"sasrec": "SASRec", "semantic_ids": "Semantic IDs"}  # keys that `label` cannot turn into words


def number(value: float | None) -> str:
    """Write a count or a measurement: thousands separated, four significant digits."""
    if value is None:
        return NONE
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)


def score(value: float | None) -> str:
    """Write a model's score with two decimals, or as a power of ten if it is tiny."""
    if value is None:
        return NONE
    return (f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}").replace("-", MINUS)


def percent(value: float | None) -> str:
    """Write a share, 0-1, in per cent. A share between 0 and 1 is never rounded to 0 % or 100 %."""
    if value is None:
        return NONE
    if 0 < value < 1e-4:
        return f"<0.01{NBSP}%"
    if 0.9995 <= value < 1:
        return f">99.9{NBSP}%"
    digits = f"{value * 100:.2g}" if 0 < value < 0.01 else f"{value * 100:.1f}".removesuffix(".0")
    return f"{digits}{NBSP}%"


def size(value: float) -> str:
    """Write bytes in decimal units."""
    for unit, power in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= power:
            amount = value / power
            return f"{amount:.{max(0, 3 - len(str(int(amount))))}f}{NBSP}{unit}"
    return f"{value:.0f}{NBSP}bytes"


def duration(seconds: float) -> str:
    """Write seconds in the units that a person would use."""
    if seconds < 59.95:
        return f"{seconds:.1f}{NBSP}s" if seconds >= 0.9995 else f"{seconds * 1000:.0f}{NBSP}ms"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}{NBSP}min {rest:02d}{NBSP}s"
    return f"{minutes // 60}{NBSP}h {minutes % 60:02d}{NBSP}min"


def change(value: float, base: float) -> str:
    """Write the difference of `value` from `base` in per cent, with its sign; empty if `base` is 0."""
    if base == 0:
        return ""
    relative = (value / base - 1) * 100
    text = f"{relative:+.0f}" if abs(relative) >= 99.5 else f"{relative:+.1f}"
    return ("±0" if float(text) == 0 else text.replace("-", MINUS)) + NBSP + "%"


def label(name: str) -> str:
    """Turn a key into words for the page: "split_rule" → "Split rule"."""
    if name in NAMES:
        return NAMES[name]
    words = name.replace("_", " ").strip()
    return words[:1].upper() + words[1:]


def fact(name: str, value: Any) -> str:
    """Write one fact about the data set. Its name says whether a number is a share."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        is_share = name in ("density", "sparsity") or name.endswith("share")
        return percent(value) if is_share else number(value)
    return NONE if value is None else str(value)


def setting(value: Any) -> str:
    """Write a value of the configuration almost as a user would type it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(setting, value)) or NONE
    return NONE if value is None or value in ("", {}) else str(value)


def filters() -> dict[str, Callable[..., str]]:
    """Return the functions that the template calls by name."""
    return {"number": number, "score": score, "duration": duration}
