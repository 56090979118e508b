"""Patches: zstd frames that make a file of a release from an older version of it, as `zstd --patch-from` does.

The client checks the file that a patch makes against the file's signed hash, so a patch need not be trusted. The
settings give the smallest patches on catalogues of 50 thousand and a million items (`benchmarks/refresh_bytes.py`).
"""

from __future__ import annotations

from typing import Final

from pocketrec.runtime.sync.patch import window_log

_SHORTEST_MATCH: Final = 6  # rows are 3 bytes and ids about 10, so shorter matches are mostly by chance
_SEARCH_LOG: Final = 5  # with 3, patches are twice as large: lengths and codes have many similar places


def make_patch(base: bytes, new: bytes) -> bytes:
    """Return the patch that makes `new` from `base`. It needs about 12 times the bytes of both as memory.

    :raises SyncError: if they are too large for a patch.
    """
    import zstandard

    window = window_log(len(base) + len(new))
    settings = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_BTOPT,
        window_log=window,  # reaches from the end of `new` to the start of `base`
        chain_log=min(window, 30),  # the tables of the usual levels hold only the last megabytes of a base
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
