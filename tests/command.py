"""The command line in this process, and a small log to try it on."""

from __future__ import annotations

import contextlib
import io
import random
import sys
from pathlib import Path

from pocketrec.__main__ import main


def pocketrec(*arguments: object) -> tuple[int, str, str]:
    """Run the command; return exit code, stdout and stderr."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    sys.argv = ["pocketrec", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main()
    except SystemExit as stop:
        code = stop.code
    finally:
        sys.argv = argv
    return code or 0, out.getvalue(), err.getvalue()


def write_ring(folder: Path) -> Path:
    """Write log.csv and items.csv: each user walks round a ring of 60 items."""
    generator = random.Random(0)
    with (folder / "log.csv").open("w") as file:
        file.write("user_id,item_id,timestamp\n")
        for user in range(200):
            start = generator.randrange(60)
            for step in range(8):
                file.write(f"u{user},i{(start + step) % 60},{1_600_000_000 + step}\n")
    with (folder / "items.csv").open("w") as file:
        file.write("item_id,title,kind\n")
        for item in range(60):
            file.write(f'i{item},"Thing, number {item}",kind {item // 10}\n')
    return folder
