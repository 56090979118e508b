"""The chart of `pocketrec bench`: a bar per system, by the median call, on a logarithmic axis."""

from __future__ import annotations

from typing import Any

from pocketrec.report.charts import log_bar_chart
from pocketrec.report.render import templates

OWN, PEER = 0, 5  # hues of our rows, and of the systems that they are compared with


def latency_chart(result: dict[str, Any]) -> str:
    """Draw the rows of `pocketrec.bench.bench.bench` as one SVG document that needs no network.

    :raises MissingExtraError: if jinja2 is not installed.
    """
    rows = [
        (row["system"], float(row["p50_ms"]), OWN if row["system"].startswith("pocketrec") else PEER)
        for row in result["rows"]
    ]
    words = "; ".join(f"{name} {value:.4g}" for name, value, _ in rows)
    chart = log_bar_chart(
        rows, f"Milliseconds of one call, median: {words}.", title="Milliseconds of one call (median)"
    )
    return templates().get_template("chart.svg.jinja").render(chart=chart)
