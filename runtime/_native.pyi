"""The extension module that runtime/native/ is compiled to; `runtime/native/python/` documents its calls.

Arrays must not have gaps and must have the type that a comment gives; else TypeError or ValueError.
"""

from typing import Any

from numpy.typing import NDArray

Numbers = NDArray[Any]

def kernels() -> list[str]: ...
def find_rows(
    ids: list[str],
    index: Numbers,  # uint64 [n]
    id_bytes: Numbers,  # uint8
    id_offsets: Numbers,  # int64 [n + 1]
    rows: Numbers,  # int32 [len(ids)], written
) -> bool: ...
def texts(
    rows: Numbers,  # int32
    blob: Numbers,  # uint8
    offsets: Numbers,  # int64
) -> list[str]: ...
def word_norms(
    first: Numbers,  # int64 [n + 1]
    terms: Numbers,  # int32
    idf: Numbers,  # float32 [V]
    norm: Numbers,  # float32 [n], written
    size: Numbers,  # int64 [V], written
) -> None: ...
def word_postings(
    first: Numbers,  # int64 [n + 1]
    terms: Numbers,  # int32
    order: Numbers,  # int32 [n]
    post_first: Numbers,  # int64 [V + 1]
    post_items: Numbers,  # int32, written
) -> None: ...

class Experts:
    def __init__(
        self,
        items: int,
        weights: tuple[float, float, float, float, float, float, int],  # crowd, words, popular, recencies, seen, newest
        crowd: tuple[Numbers, ...] | None,  # int64 [n + 1], int32 [m], float32 [m], float32 [n]
        words: tuple[Numbers, ...]
        | None,  # int64 [n + 1], int32, float32 [V], float32 [n], int64 [V + 1], int32, float32 [n]
        /,
    ) -> None: ...

class Floor:
    def __init__(
        self,
        experts: Experts,
        leaves: Numbers,  # float32 [leaves]
        nodes: Numbers,  # float32 [nodes]
        parents: Numbers,  # int32 [nodes]
        leaf_of: Numbers | None,  # int32 [n]
        /,
    ) -> None: ...

class NodeGains:  # a buffer of float32 [nodes]
    def __init__(self, floor: Floor, history: Numbers, excluded: bool, /) -> None: ...  # int32

class Catalogue:
    def __init__(
        self,
        index: Numbers,  # uint64 [n]
        id_bytes: Numbers,  # uint8
        id_offsets: Numbers,  # int64 [n + 1]
        titles: Numbers | None,  # uint8
        title_offsets: Numbers | None,  # int64 [n + 1]
        rows: Numbers,  # uint8 or uint16 [n, L]
        first_child: Numbers,  # int32 [internal nodes + 1]
        codes: Numbers,  # [nodes], of the type of rows
        item_type: type,
        /,
    ) -> None: ...
    def leaf(self, item_id: str) -> int: ...

class Model:
    def __init__(
        self,
        sizes: tuple[int, ...],
        eps: float,
        tensors: tuple[Numbers | None, ...],  # float32; tokens and keys of pairs int32
        kernels: str | None = None,
    ) -> None: ...
    @property
    def kernels(self) -> str: ...
    def encode(
        self,
        history: Numbers,  # int32 [N, L]
        past: Numbers | None,  # float32 [layers, 2, G, P, d]
        hidden: Numbers,  # float32 [D], written
        present: Numbers | None,  # float32 [layers, 2, G, S, d], written
    ) -> None: ...
    def search(
        self,
        hidden: Numbers,  # float32 [D]
        cache: Numbers | None,  # float32 [layers, 2, G, S, d]
        first_child: Numbers,  # int32 [internal nodes + 1]
        codes: Numbers,  # uint8 or uint16 [nodes]
        exclude: Numbers,  # int32
        beam: int,
        widen: bool,
        bias: Numbers | None,  # float32 [nodes]
        rows: Numbers,  # int32, written
        scores: Numbers,  # float32, written
    ) -> int: ...
    def encode_and_search(
        self,
        history: Numbers,  # int32 [N, L]
        unused: None,
        first_child: Numbers,  # from here on as in search
        codes: Numbers,
        exclude: Numbers,
        beam: int,
        widen: bool,
        bias: Numbers | None,
        rows: Numbers,
        scores: Numbers,
    ) -> int: ...
    def recommend_items(
        self,
        catalogue: Catalogue,
        floor: Floor | None,
        ids: list[str] | None,
        hidden: Numbers | None,  # float32 [D]
        cache: Numbers | None,  # float32 [layers, 2, G, S, d]
        history_leaves: Numbers | None,  # int32
        k: int,
        beam: int,
        exclude_seen: bool,
        widen: bool,
    ) -> list[Any] | None: ...
