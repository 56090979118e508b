"""Applying patches: zstd frames that refer to the file on the device, unpacked within the signed length."""

from __future__ import annotations

from typing import Final

from pocketrec.runtime.errors import SyncError

MIN_WINDOW_LOG: Final = 17
MAX_WINDOW_LOG: Final = 28  # 256 MiB, base and result together: beyond, the memory of both sides is better spared


def window_log(size: int) -> int:
    """Logarithm of the window that reaches back over `size` bytes.

    :raises SyncError: if none does.
    """
    needed = max(MIN_WINDOW_LOG, max(size - 1, 1).bit_length())
    if needed > MAX_WINDOW_LOG:
        raise SyncError(f"{size} bytes are too many for a patch; send the whole file")
    return needed


def apply_patch(base: bytes, patch: bytes, length: int) -> bytes:
    """Return what a patch makes out of `base`.

    :param length: bytes that it must make; memory is bounded by it.
    :raises SyncError: if the frame is damaged, or promises or makes another length. The caller checks the hash.
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
