"""The `pocketrec` command: an error becomes one line on stderr and an exit code (0 done, 1 failed, 2 usage)."""

from __future__ import annotations

import sys

from pocketrec.runtime.errors import ConfigError, MissingExtraError, PocketRecError


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        try:
            from pocketrec.cli.app import app
        except ModuleNotFoundError as error:
            if error.name not in ("typer", "rich"):
                raise
            raise MissingExtraError(
                "the command line needs pocketrec[cli]; install it with: pip install 'pocketrec[cli]'"
            ) from error
        app()
    except PocketRecError as error:
        sys.stderr.write(f"pocketrec: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        sys.stderr.write("\npocketrec: stopped; the same command resumes from the last checkpoint\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
