"""The run report: one safe, self-contained page that shows what the summary holds, and nothing else."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from small_summary import HOSTILE, summary

from pocketrec.report.render import render_report, write_report
from pocketrec.report.summary import RunSummary, from_json, to_json
from pocketrec.runtime.errors import DataError

VOID = {"meta", "br", "img", "input", "link", "hr"}

# part of the summary → the sections that stand and fall with it
SECTIONS = {
    "metrics": {"quality"},
    "losses+validation": {"training"},
    "semantic_ids": {"codebooks"},
    "metrics+popularity_bias": {"quality", "catalogue"},
    "examples": {"examples"},
    "dataset": {"data"},
    "artifact": {"bundle"},
    "gates": {"formats"},
    "metrics+artifact": {"overview", "quality", "bundle"},
    "seconds": {"timings"},
    "configuration": {"configuration"},
    "versions": {"versions"},
    "seeds": {"seeds"},
    "next_command": {"next"},
}


class Page(HTMLParser):
    """A parsed page: every element with its attributes, its text, and the elements left open."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.mismatched: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"attribute given twice in <{tag}>"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.mismatched.append(tag)

    def handle_data(self, data):
        if data.strip() and self.open:
            self.texts.setdefault(self.open[-1], []).append(" ".join(data.split()))

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.elements if name in attrs]

    @property
    def sections(self) -> list[str]:
        return [attrs["id"] or "" for tag, attrs in self.elements if tag == "section"]


def rendered(**changes: object) -> Page:
    return Page(render_report(dataclasses.replace(summary(), **changes)))


@pytest.mark.parametrize("text", ["plain", HOSTILE])
def test_the_page_fetches_nothing_and_runs_nothing(text):
    html = render_report(summary(text))
    page = Page(html)
    for name in ("src", "srcset", "action", "data", "poster", "background", "xlink:href", "formaction"):
        assert page.attributes(name) == []
    assert all(link.startswith("#") for link in page.attributes("href"))
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {t for t, _ in page.elements}
    assert not [name for _, attrs in page.elements for name in attrs if name.startswith("on")]
    css = " ".join(page.texts["style"] + page.attributes("style"))
    assert "url(" not in css
    assert "@import" not in css
    assert not re.search(r"https?://|//\w", html)
    assert any("default-src 'none'" in policy for policy in page.attributes("content"))


def test_hostile_text_is_shown_as_it_is():
    page = Page(render_report(summary(HOSTILE)))
    for tag in ("h1", "li", "code", "dd", "th", "td", "span"):
        assert any(HOSTILE in shown for shown in page.texts[tag]), tag
    assert page.mismatched == []


def test_the_page_is_well_formed_and_its_references_resolve():
    page = rendered()
    ids = page.attributes("id")
    assert page.open == []
    assert page.mismatched == []
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in page.attributes("href")} <= set(ids)
    assert set(page.attributes("aria-labelledby")) <= set(ids)


def test_every_chart_says_in_words_what_it_shows():
    page = rendered()
    charts = [attrs for tag, attrs in page.elements if tag == "svg" and "aria-hidden" not in attrs]
    assert len(charts) == len(page.texts["desc"]) == 11  # 2 × (loss, rate), 2 validation, 2 levels, 2 systems, sizes
    assert all(attrs["role"] == "img" for attrs in charts)
    assert "Training loss of Student: 3 at epoch 0, 0.375 at 1.75." in page.texts["desc"]
    assert (
        "Items per code at level 1: 3 of 4 codes are in use; the most used code has 5 items, the mean is 2."
        in page.texts["desc"]
    )


def test_a_full_summary_fills_every_section_and_the_menu_lists_them():
    page = rendered()
    assert set(page.sections) == set().union(*SECTIONS.values())
    assert [link[1:] for link in page.attributes("href") if link != "#main"] == page.sections


@pytest.mark.parametrize("parts", SECTIONS)
def test_a_missing_part_leaves_its_section_out_and_no_other(parts):
    empty = RunSummary(title="nothing")
    changes = {name: getattr(empty, name) for name in parts.split("+")}
    assert set(rendered().sections) - set(rendered(**changes).sections) == SECTIONS[parts]


@pytest.mark.parametrize("parts", [p for p in SECTIONS if "metrics+popularity" not in p])
def test_a_part_alone_is_enough_for_its_section(parts):
    changes = {name: getattr(summary(), name) for name in parts.split("+")}
    assert SECTIONS[parts] <= set(Page(render_report(RunSummary(title="one part", **changes))).sections)


def test_a_title_alone_makes_a_page():
    page = Page(render_report(RunSummary(title="Only a title")))
    assert page.sections == []
    assert page.texts["h1"] == ["Only a title"]


def test_parts_of_a_part_may_be_missing():
    page = rendered(
        artifact={"p50_ms": 2.0},
        semantic_ids={"counts": [[1, 0]], "collapsed": True},
        metrics={"student": {"seen kept": {"recall@10": None}}, "popularity": {"seen kept": {"mrr": 0.0}}},
        dataset={"users": 3},
        losses=[{"model": "student", "step": 0, "epoch": 0.0, "loss": 1.0, "learning_rate": None}],
        validation=[{"model": "student", "epoch": 1.0, "recall@10": None, "ndcg@10": 0.0}],
    )
    assert page.mismatched == []
    assert "bundle" not in page.sections
    assert "Collapsed codebook." in page.texts["strong"]
    assert "What the data check found, and the rule that was applied" not in page.texts["h3"]


def test_the_best_of_each_column_is_bold_and_baselines_stand_beside_the_student():
    page = rendered(
        shortfall="",
        metrics={
            "student": {"seen kept": {"recall@10": 0.08, "coverage@10": 0.7, "invalid": 0.0}},
            "popularity": {"seen kept": {"recall@10": 0.02, "coverage@10": 0.01, "invalid": 0.0}},
            "sasrec": {"seen kept": {"recall@10": 0.1, "coverage@10": 0.7, "invalid": 0.0}},
        },
    )
    assert page.texts["strong"] == ["70 %", "0.1000", "70 %"]  # a tie is bold twice; invalid is not a contest
    assert [t for t in page.texts["small"] if t[0] in "+−"] == ["−0.0600", "−69.0 pt", "+0.0200", "+0.0 pt"]
    assert (
        "The next item is among the bundle’s ten recommendations for 8 % of the test users (seen kept): "
        "20.0 % fewer than for the best of the others, SASRec."
    ) in page.texts["p"]
    assert "−20.0 % against SASRec (0.1000)" in page.texts["dd"]


def test_the_bundle_stands_beside_each_system_with_a_p_value():
    page = render_report(summary())
    assert "student: recall@10 .1000, 25 % above plain" in page
    assert "−0.0200, p\u00a0=\u00a0.250</small>" in page
    assert "+0.0100, p\u00a0&lt;\u00a0.001</small>" in page
    assert "paired bootstrap" in page
    assert "<li>The committee leaves out plain: it is not better with it.</li>" in page
    without = render_report(dataclasses.replace(summary(), p_values={}, verdict="", left_out=[]))
    assert "paired bootstrap" not in without


def test_both_conventions_are_shown_the_apps_own_first():
    page = rendered()
    assert page.texts["h3"][:2] == ["Seen excluded", "Seen kept"]
    assert "Recall@10, seen excluded" in page.texts["dt"]
    assert "0.0800 with seen kept" in page.texts["dd"]


def test_formats_say_what_they_lost_against_the_first():
    page = rendered()
    assert "−2.0%" in page.texts["td"]
    assert "NDCG@10 on validation by megabytes: float32 4.00 MB, 0.0500; plain 1.00 MB, 0.0490." in page.texts["desc"]


def test_hits_are_marked_in_words():
    assert rendered().texts["span"].count("✓ hit") == 1


def test_a_report_made_again_from_the_summarys_json_is_the_same_file():
    whole = summary(HOSTILE)
    assert render_report(from_json(to_json(whole))) == render_report(whole)


def test_a_report_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "run" / "report.html"
    write_report(RunSummary(title="first"), path)
    write_report(RunSummary(title="second"), path)
    with pytest.raises(DataError):
        write_report(RunSummary(title="third", seconds={"train": "long"}), path)  # type: ignore[dict-item]
    assert Page(path.read_text(encoding="utf-8")).texts["h1"] == ["second"]
    assert list(path.parent.iterdir()) == [path]


def test_without_jinja2_the_error_names_the_extra(tmp_path):
    code = (
        "import sys; sys.modules['jinja2'] = None\n"
        "from pathlib import Path\n"
        "from pocketrec.report.render import write_report\n"
        "from pocketrec.report.summary import RunSummary\n"
        "from pocketrec.runtime.errors import MissingExtraError\n"
        "try: write_report(RunSummary(title='t'), Path('report.html'))\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "pocketrec[train]" in done.stdout


def test_importing_the_report_imports_nothing_heavy():
    heavy = "{'jinja2', 'matplotlib', 'msgspec', 'torch'}"
    code = f"import sys, pocketrec.report.render; print(*(sys.modules.keys() & {heavy}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
