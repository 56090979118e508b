"""The extension module that runtime/native/ is compiled to; `runtime/native/python/` documents its calls.

Arrays are checked for type (in brackets below), size and alignment: TypeError, ValueError.
"""

from typing import Any

from numpy.typing import NDArray

Numbers = NDArray[Any]

def kernels() -> list[str]: ...
def find_rows(ids: list[str], index: Numbers, id_bytes: Numbers, id_offsets: Numbers, rows: Numbers) -> bool: ...
def texts(rows: Numbers, blob: Numbers, offsets: Numbers) -> list[str]: ...

class Catalogue:
    def __init__(
        self,
        index: Numbers,
        id_bytes: Numbers,
        id_offsets: Numbers,
        titles: Numbers | None,
        title_offsets: Numbers | None,
        rows: Numbers,
        first_child: Numbers,
        codes: Numbers,
        item_type: type,
        /,
    ) -> None: ...
    def leaf(self, item_id: str) -> int: ...

class Model:
    def __init__(
        self, sizes: tuple[int, ...], eps: float, tensors: tuple[Numbers | None, ...], kernels: str | None = None
    ) -> None: ...
    @property
    def kernels(self) -> str: ...
    def encode(self, history: Numbers, past: Numbers | None, hidden: Numbers, present: Numbers | None) -> None: ...
    def search(
        self,
        hidden: Numbers,
        cache: Numbers | None,
        first_child: Numbers,
        codes: Numbers,
        exclude: Numbers,
        beam: int,
        bias: Numbers | None,
        rows: Numbers,
        scores: Numbers,
    ) -> int: ...
    def recommend_items(
        self,
        catalogue: Catalogue,
        ids: list[str] | None,
        hidden: Numbers | None,
        cache: Numbers | None,
        history_leaves: Numbers | None,
        k: int,
        beam: int,
        exclude_seen: bool,
    ) -> list[Any] | None: ...
    def encode_and_search(
        self,
        history: Numbers,
        unused: None,
        first_child: Numbers,
        codes: Numbers,
        exclude: Numbers,
        beam: int,
        bias: Numbers | None,
        rows: Numbers,
        scores: Numbers,
    ) -> int: ...
