"""Runs README's test command and then every other session of nox; ends with one table. `.ci/run` calls it.

    python .ci/checks.py FOLDER

FOLDER takes the environments (each is removed when its session has ended), logs and reports. The Python that runs
this has nox. README's command has the machine to itself; the other sessions run side by side, one on each processor.
A session that fails does not stop the others, and its log is shown. A skipped test counts as run if it passes in
another session. The exit code is 1 if a session fails, and on x86-64 Linux also if a skip needs neither a network nor
another processor.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

DEFAULT = "README's command"  # not a session: `nox` without arguments
CHAINS = (
    ("quickstart",),
    ("gguf",),
    ("kotlin", "apk"),
)  # the longest first; a chain shares a folder, so it runs in order
LIMIT, IN_ALL = 30 * 60, 80 * 60  # seconds for one session, and for all of them
SHOWN = 200  # lines of the log of a session that failed
# Why a test may be skipped even on x86-64 Linux.
ALLOWED = re.compile(r"needs a network|POCKETREC_BEAUTY|Python interpreter \S+ not found|this processor")


@dataclass(frozen=True)
class Test:
    """One test of one session."""

    name: str  # unique in a session, the same in all of them; of a module that was skipped whole, the module's
    status: str  # passed, failed or skipped
    reason: str = ""  # why it was skipped


@dataclass(frozen=True)
class Outcome:
    """One session, or several that ran in one call."""

    name: str
    what: str
    code: int
    seconds: float
    tests: tuple[Test, ...]
    skipped: str = ""  # why the whole session was skipped


def read_report(file: Path) -> list[Test]:
    """Read JUnit's XML as pytest, Surefire and Vitest write it; a file that was cut short counts as a failed test."""
    try:
        cases = list(ElementTree.parse(file).iter("testcase"))
    except ElementTree.ParseError:
        return [Test(file.name, "failed")]
    tests = []
    for case in cases:
        name = ".".join(part for part in (case.get("classname"), case.get("name")) if part)
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            tests.append(Test(name, "failed"))
        elif skipped is None:
            tests.append(Test(name, "passed"))
        else:
            reason = skipped.get("message") or ""
            if reason == "collection skipped":  # pytest's, of a whole module: (file, line, reason) as Python writes it
                reason = ast.literal_eval(skipped.text or "")[2].removeprefix("Skipped: ")
            tests.append(Test(name, "skipped", reason))
    return tests


def ran_elsewhere(test: Test, session: str, passed: dict[str, set[str]]) -> str:
    """Return the session in which a skipped test passed, or "" if there is none."""
    for other, names in passed.items():
        if other != session and (test.name in names or any(name.startswith(f"{test.name}.") for name in names)):
            return other
    return ""


def table(outcomes: Iterable[Outcome]) -> tuple[list[str], int, Counter[str]]:
    """Return the table's lines, the number of skips that are not allowed, and the counts of all sessions."""
    outcomes = list(outcomes)
    passed = {o.name: {test.name for test in o.tests if test.status == "passed"} for o in outcomes}
    rows = [("session", "result", "passed", "failed", "skipped", "seconds", "what ran; why anything was skipped")]
    total: Counter[str] = Counter()
    refused = 0
    for outcome in outcomes:
        counts = Counter(test.status for test in outcome.tests)
        result = "FAILED" if outcome.code else "skipped" if outcome.skipped else "ok"
        numbers = [str(counts[kind]) if outcome.tests else "-" for kind in ("passed", "failed", "skipped")]
        rows.append((outcome.name, result, *numbers, f"{outcome.seconds:.0f}", outcome.what))
        total["passed"] += counts["passed"]
        total["failed"] += max(counts["failed"], int(outcome.code != 0))
        left_out = [test for test in outcome.tests if test.status == "skipped"]
        skips = Counter(
            (test.reason or "no reason given", ran_elsewhere(test, outcome.name, passed)) for test in left_out
        )
        if outcome.skipped:
            skips[outcome.skipped, ""] += 1
        for (reason, other), count in skips.items():
            allowed = bool(other or ALLOWED.search(reason))
            note = f"ran in {other}" if other else "" if allowed else "NOT ALLOWED"
            rows.append(("", "", "", "", str(count), "", f"  {reason}{'; ' if note else ''}{note}"))
            total["skipped"] += 0 if other else count
            refused += 0 if allowed else count
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    lines = []
    for row in rows:
        left = [row[i].ljust(widths[i]) for i in (0, 1)]
        right = [row[i].rjust(widths[i]) for i in range(2, 6)]
        lines.append("  ".join([*left, *right, row[6]]).rstrip())
    return lines, refused, total


class Runner:
    """Runs sessions of nox, each in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.end = folder, time.monotonic() + IN_ALL
        self.nox = Path(sys.executable).with_name("nox")
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def sessions(self) -> dict[str, str]:
        """Return all sessions that CI runs, README's command apart, and what each does."""
        listed = [self.nox, "--list", "--json"]
        default = {s["session"] for s in json.loads(subprocess.check_output(listed))}
        found = json.loads(subprocess.check_output([*listed, "-t", "ci"]))
        default.add(f"pythons-{sys.version_info[0]}.{sys.version_info[1]}")  # the Python of README's command
        return {s["session"]: s["description"] for s in found if s["session"] not in default}

    def run(self, name: str, what: str, *, alone: bool = False) -> Outcome:
        """Run one session, or README's command; never raises because of what it finds."""
        slug = re.sub(r"\W+", "-", name)
        home, reports, log = self.folder / "nox" / slug, self.folder / "reports" / slug, self.folder / "logs" / slug
        command = [str(self.nox), "--envdir", str(home), "--no-error-on-missing-interpreters"]
        command += [] if name == DEFAULT else ["--session", name]
        environment = {**os.environ, "POCKETREC_REPORTS": str(reports), "NO_COLOR": "1"}
        if not alone:
            environment["POCKETREC_PROCESSES"] = "0"
        say(f"{name}: started")
        begin = time.monotonic()
        code = call(command, environment, log, max(1.0, min(LIMIT, self.end - begin)))
        seconds = time.monotonic() - begin
        shutil.rmtree(home, ignore_errors=True)
        tests = [test for report in sorted(reports.rglob("*.xml")) for test in read_report(report)]
        text = log.read_text(errors="replace")
        why = re.search(rf"Session {re.escape(name)} skipped: (.*?)(?: \(took .*\))?\.?$", text, re.MULTILINE)
        if code:
            say("".join(f"{name} | {line}" for line in text.splitlines(keepends=True)[-SHOWN:]))
        say(f"{name}: {'FAILED' if code else 'skipped' if why else 'ok'} after {seconds:.0f} s")
        return Outcome(name, what, code, seconds, tuple(tests), why[1] if why else "")


def call(command: list[str], environment: dict[str, str], log: Path, limit: float) -> int:
    """Run a command into a log; after `limit` seconds, end it with all that it started."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            out.write(f"\nended after {limit:g} s\n".encode())
            return 124


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    """Run all, and print the table."""
    runner = Runner(Path(sys.argv[1]))
    begin = time.monotonic()
    outcomes = [runner.run(DEFAULT, "style, types of the installed wheel, tests (`nox`)", alone=True)]
    sessions = runner.sessions()
    chains = [tuple(name for name in chain if name in sessions) for chain in CHAINS]
    chains += [(name,) for name in sessions if not any(name in chain for chain in chains)]
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for done in pool.map(lambda chain: [runner.run(name, sessions[name]) for name in chain], chains):
            outcomes += done
    lines, refused, total = table(outcomes)
    say("\n" + "\n".join(lines) + f"\n\nall of it in {time.monotonic() - begin:.0f} s")
    strict = sys.platform == "linux" and platform.machine() == "x86_64"
    if refused and strict:
        say(f"{refused} skipped that could run on this machine")
    say(f"{total['passed']} passed, {total['failed']} failed, {total['skipped']} skipped")
    return int(any(outcome.code for outcome in outcomes) or bool(refused and strict))


if __name__ == "__main__":
    sys.exit(main())
