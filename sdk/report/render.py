"""The run report: what a run did and how good its bundle is, as one HTML file.

The end of the path of the data: a `RunSummary` goes in, a page comes out. Promises: the file needs no network, script
or font; text from user data is escaped; a part of the summary that is missing leaves its section out; a report that is
made again from the summary's JSON is the same file, byte for byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pocketrec.report.page import build_page
from pocketrec.report.summary import RunSummary, from_json, to_json
from pocketrec.report.text import filters
from pocketrec.runtime.errors import MissingExtraError
from pocketrec.runtime.files.atomic import atomic_write_text

if TYPE_CHECKING:
    from jinja2 import Environment


def render_report(summary: RunSummary) -> str:
    """Return the report as one HTML document; the same summary gives the same document.

    :raises DataError: if a part of the summary has the wrong type.
    :raises MissingExtraError: if jinja2 is not installed.
    """
    page = build_page(from_json(to_json(summary)))  # through JSON: checked, plain, and as a rebuilt report sees it
    return templates().get_template("report.html.jinja").render(page=page)


def write_report(summary: RunSummary, path: Path) -> None:
    """Write the report to `path`, whole or not at all; an older report stays until the new one is complete.

    :raises DataError: if a part of the summary has the wrong type.
    :raises MissingExtraError: if jinja2 is not installed.
    """
    html = render_report(summary)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, html)


def templates() -> Environment:
    """Return the templates of this package: what they insert is escaped, and a missing name is an error.

    :raises MissingExtraError: if jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
    except ImportError as error:
        raise MissingExtraError(
            "reports and charts need jinja2, which comes with pocketrec[train]; install it with: "
            "pip install 'pocketrec[train]'"
        ) from error
    environment = Environment(
        loader=PackageLoader("pocketrec"),
        autoescape=True,  # for every template, whatever its name ends in
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters.update(filters())
    return environment
