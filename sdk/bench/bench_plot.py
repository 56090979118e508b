"""The chart of `pocketrec bench`: a bar per system, by the median call, on a logarithmic axis; one SVG, no network."""

from __future__ import annotations

import math
from typing import Any
from xml.sax.saxutils import escape

LEFT, WIDTH, BAR, GAP, TOP = 190, 520, 20, 12, 34


def latency_chart(result: dict[str, Any]) -> str:
    """Draw the rows of `pocketrec.bench.bench.bench`."""
    rows = [(row["system"], float(row["p50_ms"])) for row in result["rows"]]
    low = math.floor(math.log10(min(value for _, value in rows)))
    high = max(low + 1, math.ceil(math.log10(max(value for _, value in rows))))
    height = TOP + len(rows) * (BAR + GAP) + 40

    def x(value: float) -> float:
        return LEFT + WIDTH * (math.log10(value) - low) / (high - low)

    bottom = TOP + len(rows) * (BAR + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 90} {height}" '
        'font-family="system-ui, sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="{LEFT}" y="18" font-weight="600">Milliseconds of one call (median)</text>',
    ]
    for power in range(low, high + 1):
        at = x(10.0**power)
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP - 6}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle" fill="#555">{10.0**power:g}</text>')
    for place, (name, value) in enumerate(rows):
        y = TOP + place * (BAR + GAP)
        colour = "#0b6e69" if name.startswith("pocketrec") else "#9aa5ad"
        wide = max(2.0, x(value) - LEFT)
        parts.append(f'<text x="{LEFT - 10}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect x="{LEFT}" y="{y}" width="{wide:.1f}" height="{BAR}" rx="3" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + wide + 8:.1f}" y="{y + 15}">{value:.2f}</text>')
    return "\n".join([*parts, "</svg>", ""])
