"""Patches: a file of a release as a zstd frame that refers to an older version of it (as `zstd --patch-from` makes).

What a patch makes is always checked against the signed hash of the file itself, so a patch needs no trust of its own.
Settings were chosen by size on catalogues of 50 thousand and a million items (`benchmarks/refresh_bytes.py`).
"""

from __future__ import annotations

from typing import Final

from pocketrec.runtime.sync.patch import window_log

_SHORTEST_MATCH: Final = 6  # rows are 3 bytes and ids about 10, so shorter matches are mostly accidents
_SEARCH_LOG: Final = 5  # lengths and codes look alike everywhere: with 3, patches are twice as large


def make_patch(base: bytes, new: bytes) -> bytes:
    """Return the zstd frame that makes `new` out of `base`; takes about 12 times the bytes of both as memory.

    :raises SyncError: if they are too large for a patch.
    """
    import zstandard

    window = window_log(len(base) + len(new))
    settings = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_BTOPT,
        window_log=window,  # reaches from the end of the result to the start of the base
        chain_log=min(
            window, 30
        ),  # the tables of the levels are too small: they see the last megabytes of a base alone
        hash_log=window - 1,
        search_log=_SEARCH_LOG,
        min_match=_SHORTEST_MATCH,
        target_length=64,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=settings).compress(new)
