"""The item index of a model that generates semantic-ID tokens: which tokens stand for which item.

JSON as LC-Rec ships it, {"item id": ["<a_12>", "<b_7>", "<c_201>"], ...}, or with token ids in place of strings. The
tokens of a level become codes 0, 1, 2, ... by rising token id. One token may occur at several levels: its position in
the item tells the level.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pocketrec.runtime.catalogue.trie_file import MAX_LEVELS, code_type
from pocketrec.runtime.errors import DataError

Tokens = Callable[[], Mapping[str, int]]


@dataclass(frozen=True)
class TokenIndex:
    """The items and their tokens.

    rows: uint8 or uint16 [n_items, L], codes. tokens: for each level, int32 [K_l], the token id of each code, rising.
    """

    item_ids: tuple[str, ...]
    rows: NDArray[np.unsignedinteger]
    tokens: tuple[NDArray[np.int32], ...]

    @property
    def levels(self) -> int:
        """Tokens of an item, L."""
        return len(self.tokens)

    @property
    def codes(self) -> int:
        """Codes of the level with the most codes, K."""
        return max(len(level) for level in self.tokens)

    @property
    def sid_space(self) -> str:
        """Hash of the table of tokens, 32 hexadecimal digits: other tokens give another SID space."""
        table = json.dumps([level.tolist() for level in self.tokens])
        return hashlib.sha256(table.encode()).hexdigest()[:32]

    def padded(self) -> NDArray[np.int32]:
        """Token ids of all codes, [L, K]; codes that a level does not have repeat its first token."""
        table = np.empty((self.levels, self.codes), np.int32)
        for level, tokens in enumerate(self.tokens):
            table[level] = tokens[0]
            table[level, : len(tokens)] = tokens
        return table

    def item_tokens(self) -> NDArray[np.int32]:
        """Token ids of every item, [n_items, L], in the order of `item_ids`."""
        return np.stack([tokens[self.rows[:, level]] for level, tokens in enumerate(self.tokens)], axis=1)


def read_index(path: Path, vocab: int, tokenizer: Tokens) -> TokenIndex:
    """Read and check an index.

    :param path: the JSON file.
    :param vocab: size of the model's vocabulary, V.
    :param tokenizer: gives token → id; called only if the index holds strings.
    :raises DataError: unless every item has its own tokens, all known, and as many as every other item.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_distinct)
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); give the item index of the model") from error
    if not isinstance(data, dict) or not data:
        raise DataError(f'{path} is not an object of items; it must look like {{"item id": ["<a_1>", "<b_2>"], ...}}')
    items = _checked(path, data)
    ids = _token_ids(path, items, tokenizer)
    if ids.min() < 0 or ids.max() >= vocab:
        item = list(data)[int(np.flatnonzero(((ids < 0) | (ids >= vocab)).any(1))[0])]
        raise DataError(
            f"{path}: item {item!r} has a token outside the model's vocabulary of {vocab}; give the model's own index"
        )
    tokens, rows = [], np.empty(ids.shape, np.int64)
    for level in range(ids.shape[1]):
        found, rows[:, level] = np.unique(ids[:, level], return_inverse=True)
        tokens.append(found.astype(np.int32))
    index = TokenIndex(tuple(data), rows.astype(code_type(int(rows.max()) + 1)), tuple(tokens))
    _refuse_duplicates(path, index)
    return index


def _checked(path: Path, data: dict[str, Any]) -> list[Sequence[Any]]:
    """Make sure that all items are lists of one length and of one kind of token; return these lists."""
    first = next(iter(data.values()))
    length = len(first) if isinstance(first, list) else 0
    if not 1 <= length <= MAX_LEVELS:
        raise DataError(f"{path}: an item must be a list of 1 to {MAX_LEVELS} tokens; found {first!r:.60}")
    kind = str if isinstance(first[0], str) else int
    for item, tokens in data.items():
        if not isinstance(tokens, list) or len(tokens) != length:
            raise DataError(
                f"{path}: item {item!r} is {tokens!r:.60}, but the first item has {length} tokens; "
                "all items need the same number"
            )
        if not all(isinstance(token, kind) and not isinstance(token, bool) for token in tokens):
            raise DataError(
                f"{path}: item {item!r} is {tokens!r:.60}; give strings for all items, or token ids for all items"
            )
    return list(data.values())


def _token_ids(path: Path, items: list[Sequence[Any]], tokenizer: Tokens) -> NDArray[np.int64]:
    if isinstance(items[0][0], int):
        try:
            return np.array(items, np.int64)
        except OverflowError as error:
            raise DataError(f"{path} has a token id of more than 64 bits; give the model's own index") from error
    known = tokenizer()
    if unknown := sorted({token for tokens in items for token in tokens} - known.keys()):
        raise DataError(
            f"{path}: the model's tokenizer does not know {len(unknown)} tokens, the first is {unknown[0]!r}; "
            "give the tokenizer that the model was trained with, or an index of token ids"
        )
    return np.array([[known[token] for token in tokens] for tokens in items], np.int64)


def _refuse_duplicates(path: Path, index: TokenIndex) -> None:
    order = np.lexsort(index.rows.T[::-1])
    equal = np.flatnonzero((index.rows[order][1:] == index.rows[order][:-1]).all(1))
    if len(equal):
        one, two = (index.item_ids[i] for i in sorted(order[equal[0] : equal[0] + 2]))
        raise DataError(
            f"{path}: items {one!r} and {two!r} have the same tokens ({len(equal)} such pairs); "
            "give every item its own, for instance by one more token"
        )


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        raise ValueError("an item is listed twice")
    return data
