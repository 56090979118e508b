"""A JSON object of a manifest whose fields are checked as they are read; a BundleError names the field."""

from __future__ import annotations

from typing import Any, Final, NoReturn

from pocketrec.runtime.errors import BundleError

MANIFEST_FILE: Final = "manifest.json"
MAX_TEXT: Final = 256
MAX_SIZE: Final = 1 << 24  # no count of a model on a device comes near
MAX_NUMBER: Final = 1e30
REMEDY: Final = "fetch the bundle again or re-export it"


class Fields:
    """A JSON object; its methods return fields whose types they have checked."""

    def __init__(self, data: object, where: str) -> None:
        """Wrap `data`; `where` is the dotted path to it, for messages."""
        if not isinstance(data, dict):
            raise BundleError(f"{MANIFEST_FILE} has {where or 'a top level'} that is not an object; {REMEDY}")
        self.data: dict[str, Any] = data
        self._where = f"{where}." if where else ""

    def refuse(self, name: str, needed: str) -> NoReturn:
        """Raise the BundleError that says what a field is and what it must be."""
        value = self.data.get(name)
        said = repr(value)[:60] if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
        found = f"is {said}" if name in self.data else "is missing"
        raise BundleError(f"{MANIFEST_FILE}: {self._where}{name} {found}, where {needed} is needed; {REMEDY}")

    def fields(self, name: str) -> Fields:
        """Return an object."""
        if not isinstance(self.data.get(name), dict):
            self.refuse(name, "an object")
        return Fields(self.data[name], self._where + name)

    def text(self, name: str) -> str:
        """Return a text that is neither empty nor long."""
        value = self.data.get(name)
        if not isinstance(value, str) or not 1 <= len(value) <= MAX_TEXT:
            self.refuse(name, f"a text of 1 to {MAX_TEXT} characters")
        return value

    def integer(self, name: str, low: int, high: int = MAX_SIZE) -> int:
        """Return a whole number from `low` to `high`."""
        value: Any = self.data.get(name)
        if not _is_integer(value, low, high):
            self.refuse(name, f"a whole number from {low} to {high}")
        return int(value)

    def integers(self, name: str, count: int, low: int, high: int) -> tuple[int, ...]:
        """Return a list of `count` whole numbers from `low` to `high`."""
        value = self.data.get(name)
        if not isinstance(value, list) or len(value) != count or not all(_is_integer(v, low, high) for v in value):
            self.refuse(name, f"a list of {count} whole numbers from {low} to {high}")
        return tuple(value)

    def objects(self, name: str) -> tuple[dict[str, Any], ...]:
        """Return a list of objects."""
        value = self.data.get(name)
        if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
            self.refuse(name, "a list of objects")
        return tuple(value)

    def number(self, name: str) -> float:
        """Return a positive number."""
        value = self.data.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= MAX_NUMBER:
            self.refuse(name, "a positive number")
        return float(value)


def _is_integer(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
