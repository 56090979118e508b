"""Compiles the native engine (docs/decisions/0017); the rest of the build is in pyproject.toml.

The engine is optional: where it does not compile, the installation continues without it. `_build.json`, installed with
`pocketrec.runtime`, says whether it was built, by which compiler, and if not why; `pocketrec inspect` shows it. With
POCKETREC_REQUIRE_NATIVE=1 in the environment, a failure ends the installation.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError, CompileError, LinkError

NATIVE = Path("runtime", "native")
FAILURES = (BaseError, CCompilerError, CompileError, LinkError)
LAST_LINES, LINE_LENGTH = 12, 300  # of a compiler's output


class BuildNative(build_ext):
    """Compiles the extension and writes the record of how it went."""

    record: dict[str, Any]

    def run(self) -> None:
        """Build; write the record beside the module, in a source tree too if that is what is installed."""
        self.record = {"built": False, "reason": "the build ended before the native engine"}
        try:
            super().run()
        except FAILURES as error:  # before any file was compiled: there is no compiler for this platform
            self._fail(str(error))
            if self._required():
                raise
        self._tell()
        folders = [Path(self.build_lib, "pocketrec", "runtime")]
        if self.inplace:  # an editable installation
            folders.append(Path(self.get_finalized_command("build_py").get_package_dir("pocketrec.runtime")))
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "_build.json").write_text(json.dumps(self.record, indent=1) + "\n", encoding="utf-8")
            if not self.record["built"]:
                for stale in (*folder.glob("_native.*.so"), *folder.glob("_native.*.pyd")):  # of an earlier build
                    stale.unlink()

    def build_extension(self, ext: Extension) -> None:
        """Compile, and keep the compiler's last lines if it fails."""
        ext.optional = not self._required()
        with tempfile.TemporaryFile() as output:
            try:
                compiler = self._compiler()
                with _errors_to(output):
                    super().build_extension(ext)
                self.record = {"built": True, "compiler": compiler}
            except FAILURES as error:
                self._fail(_reason(error), _last_lines(output))
                raise
            finally:
                output.seek(0)
                sys.stderr.write(output.read().decode(errors="replace"))

    def get_outputs(self) -> list[str]:
        """Return the files that are installed, the record among them."""
        return [*super().get_outputs(), str(Path(self.build_lib, "pocketrec", "runtime", "_build.json"))]

    def _compiler(self) -> str:
        """Return the compiler's name and version, as it gives them.

        :raises CompileError: if there is none, or none that can compile this.
        """
        if self.compiler.compiler_type == "msvc":
            raise CompileError("MSVC does not compile the native engine, which needs GCC or Clang")
        command = self.compiler.compiler_so[0]
        if shutil.which(command) is None:
            raise CompileError(f"there is no C compiler ({command} is not found); install GCC or Clang")
        version = subprocess.run([command, "--version"], capture_output=True, text=True, errors="replace", check=False)
        return next(iter(version.stdout.splitlines()), command)

    def _fail(self, reason: str, lines: list[str] | None = None) -> None:
        self.record = {"built": False, "reason": reason, "compiler_output": lines or []}

    def _tell(self) -> None:
        if self.record["built"]:
            sys.stderr.write(f"pocketrec: the native engine was built by {self.record['compiler']}\n")
            return
        sys.stderr.write(
            f"pocketrec: the native engine was not built: {self.record['reason']}\n"
            "pocketrec: the ONNX engine replaces it, with the same results in slower calls\n"
        )

    @staticmethod
    def _required() -> bool:
        return os.environ.get("POCKETREC_REQUIRE_NATIVE", "0") not in ("", "0")


@contextlib.contextmanager
def _errors_to(file: IO[bytes]) -> Iterator[None]:
    """Write into `file` what this process and its children write to stderr."""
    sys.stderr.flush()
    stderr = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stderr.flush()
        os.dup2(stderr, 2)
        os.close(stderr)


def _reason(error: BaseException) -> str:
    """Return what failed, in a short sentence."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, subprocess.CalledProcessError):
        cause = cause.__cause__ or cause.__context__
    if cause is None:
        return str(error)
    command = [str(word) for word in cause.cmd]
    files = [word for word in command if word.endswith(".c")] or ["the extension"]
    return f"{command[0]} could not compile {files[0]} (exit status {cause.returncode})"


def _last_lines(file: IO[bytes]) -> list[str]:
    file.seek(0)
    return [line[:LINE_LENGTH] for line in file.read().decode(errors="replace").splitlines()[-LAST_LINES:]]


def _files(pattern: str) -> list[str]:
    return sorted(path.as_posix() for path in NATIVE.glob(pattern))


setup(
    cmdclass={"build_ext": BuildNative},
    ext_modules=[
        Extension(
            "pocketrec.runtime._native",
            sources=_files("*/*.c"),
            depends=[*_files("*/*.h"), (NATIVE / "cflags").as_posix()],
            extra_compile_args=["-O3", "-g0", *(NATIVE / "cflags").read_text(encoding="utf-8").split()],
        )
    ],
)
