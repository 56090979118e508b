"""The table that ends `.ci/run`: reports are read as their writers mean them, and no skip gets lost."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / ".ci" / "checks.py"


@pytest.fixture(scope="module")
def checks():
    spec = importlib.util.spec_from_file_location("checks", FILE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["checks"] = module  # its dataclasses look for it
    spec.loader.exec_module(module)
    yield module
    del sys.modules["checks"]


def outcome(checks, name, *tests, code=0, skipped=""):
    return checks.Outcome(name, f"what {name} does", code, 1.0, tuple(checks.Test(*test) for test in tests), skipped)


def test_a_report_of_pytest_is_read(checks, tmp_path):
    case = tmp_path / "test_case.py"
    case.write_text(
        "import pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert False\n"
        "@pytest.mark.skip('not today')\n"
        "def test_left(): pass\n"
        "@pytest.fixture\n"
        "def broken(): raise ValueError\n"
        "def test_error(broken): pass\n"
    )
    (tmp_path / "test_whole.py").write_text(
        "import pytest\npytest.importorskip('no_such_module', reason=\"it's away\")"
    )
    report = tmp_path / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        f"--junitxml={report}",
    ]
    subprocess.run([*command, str(tmp_path)], capture_output=True)
    found = {test.name: (test.status, test.reason) for test in checks.read_report(report)}
    assert found == {
        "test_case.test_good": ("passed", ""),
        "test_case.test_bad": ("failed", ""),
        "test_case.test_left": ("skipped", "not today"),
        "test_case.test_error": ("failed", ""),
        "test_whole": ("skipped", "it's away"),
    }


def test_a_report_of_surefire_or_vitest_is_read(checks, tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        '<testsuites><testsuite><testcase classname="a.B" name="c"/>'
        '<testcase classname="a.B" name="d"><skipped/></testcase>'
        '<testcase classname="a.B" name="e"><failure message="no"/></testcase></testsuite></testsuites>'
    )
    assert [(t.name, t.status) for t in checks.read_report(report)] == [
        ("a.B.c", "passed"), ("a.B.d", "skipped"), ("a.B.e", "failed"),
    ]  # fmt: skip


def test_a_report_that_was_cut_short_is_a_failure(checks, tmp_path):
    (tmp_path / "report.xml").write_text("<testsuites><testsuite><testcase")
    assert [t.status for t in checks.read_report(tmp_path / "report.xml")] == ["failed"]


def test_a_skip_counts_as_run_where_another_session_passed_it(checks):
    first = outcome(checks, "one", ("t.a", "skipped", "no x"), ("t.m", "skipped", "no x"), ("t.b", "passed"))
    second = outcome(checks, "two", ("t.a", "passed"), ("t.m.c", "passed"))
    lines, refused, total = checks.table([first, second])
    assert (refused, total) == (0, {"passed": 3, "failed": 0, "skipped": 0})
    assert any("no x; ran in two" in line for line in lines)


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_skip_that_passes_nowhere_is_refused(checks, status):
    first = outcome(checks, "one", ("t.a", "skipped", "no x"), ("t.b", "skipped", ""))
    lines, refused, total = checks.table([first, outcome(checks, "two", ("t.a", status, "no y"))])
    assert refused == 2 + (status == "skipped")
    assert total["skipped"] == refused
    assert any("no x; NOT ALLOWED" in line for line in lines)
    assert any("no reason given; NOT ALLOWED" in line for line in lines)


def test_a_skip_for_want_of_a_network_is_allowed(checks):
    lines, refused, total = checks.table([outcome(checks, "one", skipped="needs a network: set X")])
    assert (refused, total["skipped"]) == (0, 1)
    assert any("needs a network: set X" in line for line in lines)


def test_a_session_that_fails_without_a_failing_test_counts_as_one(checks):
    lines, _, total = checks.table([outcome(checks, "one", ("t.a", "passed"), code=1)])
    assert total == {"passed": 1, "failed": 1}
    assert "FAILED" in lines[1]


def test_a_session_that_hangs_is_ended_with_all_that_it_started(checks, tmp_path):
    log, mark = tmp_path / "log", tmp_path / "mark"
    script = f"(sleep 1.5; touch {mark}) & sleep 60"
    assert checks.call(["bash", "-c", script], {"PATH": "/usr/bin:/bin"}, log, 0.5) == 124
    assert "ended after 0.5 s" in log.read_text()
    time.sleep(1.5)
    assert not mark.exists()
