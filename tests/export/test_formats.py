"""The table of formats: how one is found, and what is refused."""

from __future__ import annotations

import pytest

from pocketrec.export.formats import FORMATS, PRESETS, find_format
from pocketrec.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((None, None), "onnx none"),
        (("onnx", "int8"), "onnx int8"),
        ((None, "int4"), "onnx int4"),
        (("gguf", None), "gguf none"),
        (("gguf", "q8_0"), "gguf q8_0"),
        ((None, None, "arm64"), "onnx int8"),
        ((None, "int4", "x86"), "onnx int4"),
        (("gguf", None, "arm64"), "gguf none"),  # the preset's scheme is for ONNX
    ],
)
def test_what_is_left_out_comes_from_the_preset_or_is_float32_onnx(given, found):
    assert find_format(*given).artifact == found


def test_every_row_is_found_by_its_names_and_every_preset_is_a_row():
    assert all(find_format(row.name, row.quantize) is row for row in FORMATS)
    assert all(find_format(None, None, preset).engine == "onnx" for preset in PRESETS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("tflite", None), "no format 'tflite none'; choose one of: onnx none"),
        (("onnx", "q8_0"), "no format 'onnx q8_0'"),
        ((None, None, "riscv"), "no preset 'riscv'; choose one of arm64, x86"),
    ],
)
def test_unknown_names_are_refused_with_the_known_ones(given, message):
    with pytest.raises(ConfigError, match=message):
        find_format(*given)
