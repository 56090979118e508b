"""Patches: a file of a release as a zstd frame that refers to an older version of it (as `zstd --patch-from` makes).

What a patch makes is always checked against the signed hash of the file itself, so a patch needs no trust of its own.
"""

from __future__ import annotations

from typing import Final

from pocketrec.runtime.sync.patch import window_log

LEVEL: Final = 19


def make_patch(base: bytes, new: bytes) -> bytes:
    """Return the zstd frame that makes `new` out of `base`."""
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL,
        source_size=len(new),
        window_log=window_log(len(base) + len(new)),
        enable_ldm=True,
        write_content_size=True,
        write_checksum=False,
        write_dict_id=False,
    )
    dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(new)
