"""A kill, or an error of the disk, at any call that touches files."""

from __future__ import annotations

import io
import os
import pathlib


class Killed(BaseException):
    """What a kill looks like from inside."""


CALLS = ("replace", "rename", "link", "unlink", "remove", "symlink", "fsync", "rmdir", "mkdir", "open")


def fail_at(patch, number, error):
    """Raise at the n-th call that touches files from now on; a kill at all that follow, too."""
    count = [0]

    def watched(real):
        def call(*arguments, **named):
            count[0] += 1
            if count[0] == number or (count[0] > number and error is Killed):
                raise error
            return real(*arguments, **named)

        return call

    for name in CALLS:
        patch.setattr(os, name, watched(getattr(os, name)))
    patch.setattr(io, "open", watched(io.open))
    accessor = getattr(
        pathlib, "_NormalAccessor", None
    )  # Python 3.10: paths call what os and io had when it was imported
    for name in CALLS if accessor else ():
        if hasattr(accessor, name):
            patch.setattr(accessor, name, staticmethod(watched(getattr(accessor, name))))
    return count
