"""The checks, each in an environment of its own: `nox` runs lint and tests as CI does.

More: `nox -s pythons-3.12` for another Python, `nox -s transformers4` for the oldest transformers we support,
`nox -s gguf` for what needs llama.cpp, `nox -s slow` for what takes minutes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "tests"]
nox.options.error_on_missing_interpreters = True

TOOLS = ("hypothesis>=6.100", "mypy>=1.13", "pytest>=8.3")


@nox.session
def lint(session: nox.Session) -> None:
    """Style and formatting."""
    session.install("ruff>=0.8")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


def _install(session: nox.Session, *extra: str) -> None:
    """Install the wheel as a user would, not the working tree."""
    folder = Path(session.create_tmp()).resolve()
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(folder), silent=True)
    wheel = max(folder.glob("*.whl"), key=lambda p: p.stat().st_mtime)
    session.install(f"pocketrec[demo,publish,teacher] @ {wheel.as_uri()}", *TOOLS, *extra)


@nox.session
def tests(session: nox.Session) -> None:
    """Types of the installed wheel, the tests, and those of the native engine once more under sanitizers."""
    _install(session)
    session.run("mypy", "-p", "pocketrec")
    session.run("pytest", *session.posargs)
    if sys.platform == "linux" and shutil.which("gcc"):
        session.run(".ci/sanitize", f"{session.bin}/python", external=True)


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
def pythons(session: nox.Session) -> None:
    """Run the tests on one Python: `nox -s pythons-3.12`."""
    _install(session)
    session.run("pytest", *session.posargs)


@nox.session
def transformers4(session: nox.Session) -> None:
    """Run the tests against the oldest transformers we support."""
    _install(session, "transformers==4.57.*")
    session.run("pytest", *session.posargs)


@nox.session
def gguf(session: nox.Session) -> None:
    """Run what needs llama.cpp, which is compiled first: minutes."""
    _install(session, "llama-cpp-python>=0.3.16")
    session.run("pytest", "tests/export", "tests/contract")


@nox.session
def slow(session: nox.Session) -> None:
    """What takes minutes: the quickstart from end to end."""
    _install(session)
    session.run("pytest", "-m", "slow", *session.posargs)
