"""Applying patches: zstd frames that refer to a file on the device. Memory is bounded by the signed length."""

from __future__ import annotations

from typing import Final

from pocketrec.runtime.errors import SyncError

MIN_WINDOW_LOG: Final = 17
MAX_WINDOW_LOG: Final = 28  # 256 MiB, base and result together; a patch of more would need too much memory


def window_log(size: int) -> int:
    """Return the binary logarithm of the window that reaches back over `size` bytes.

    :raises SyncError: if it is larger than `MAX_WINDOW_LOG`.
    """
    needed = max(MIN_WINDOW_LOG, max(size - 1, 1).bit_length())
    if needed > MAX_WINDOW_LOG:
        raise SyncError(f"{size} bytes are too many for a patch; send the whole file")
    return needed


def apply_patch(base: bytes, patch: bytes, length: int) -> bytes:
    """Return the file that a patch makes from `base`. The caller checks its hash.

    :param length: the signed length of the file in bytes.
    :raises SyncError: if the patch is damaged, or makes a file of another length.
    """
    import zstandard

    try:
        frame = zstandard.get_frame_parameters(patch)
        if frame.content_size != length or frame.window_size > 1 << window_log(len(base) + length):
            raise SyncError(f"the patch makes {frame.content_size} bytes, not {length}, or needs too large a window")
        dictionary = zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        decompressor = zstandard.ZstdDecompressor(dict_data=dictionary, max_window_size=1 << MAX_WINDOW_LOG)
        made = decompressor.decompress(patch, max_output_size=length)
    except zstandard.ZstdError as error:
        raise SyncError(f"the patch is damaged ({error})") from error
    if len(made) != length:
        raise SyncError(f"the patch made {len(made)} bytes, not {length}")
    return made
