"""`pocketrec serve`: a repository on this machine, for development."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pocketrec.cli.options import example
from pocketrec.cli.output import stderr
from pocketrec.runtime.errors import ConfigError

EXAMPLE = example("pocketrec serve site --port 8000")


def serve(
    folder: Annotated[Path, typer.Argument(help="Folder of a repository.")],
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1; 0: any free port.")] = 8000,
) -> None:
    """Serve a repository to this machine only, for development. In production, use a web server."""
    from pocketrec.serving import serve_folder

    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder; give the folder of a repository")
    serve_folder(folder, port, lambda url: stderr().print(f"serving {folder} at {url}, for development only"))
