"""Weight files that are not of the manifest's model are refused by the name of the tensor."""

from __future__ import annotations

import numpy as np
import pytest
from safetensors.numpy import save_file

from pocketrec.export.weights import device_weights, model_spec
from pocketrec.runtime.bundle.weights import read_weights
from pocketrec.runtime.errors import BundleError
from tiny import CODES, LEVELS, SPACE, tiny_student

STUDENT = tiny_student()
SPEC = model_spec(STUDENT, SPACE, 4, (CODES,) * LEVELS)


def changed(folder, **tensors):
    """Write the student's tensors but for some; None: left out."""
    weights = {**device_weights(STUDENT), **tensors}
    save_file({name: t for name, t in weights.items() if t is not None}, folder / "w.safetensors")
    return folder / "w.safetensors"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"layers.1.qkv": None}, r"lacks the tensor 'layers\.1\.qkv'; export the bundle again"),
        ({"layers.0.qkv": np.zeros((16, 32), np.float32)}, r"layers\.0\.qkv of shape \[16, 32\].* \[16, 48\]"),
        ({"layers.0.gate_up": np.zeros((16, 24), np.float32)}, r"layers\.0\.gate_up of shape \[16, 24\].* \[16, 48\]"),
        ({"layers.0.o_bias": np.zeros(3, np.float32)}, r"layers\.0\.o_bias of shape \[3\].* \[16\]"),
        ({"rope.cos": np.zeros((6, 8), np.float32)}, r"rope\.cos of shape \[6, 8\].* \[7, 8\]"),
        ({"norm": np.zeros(16, np.int32)}, "norm of type int32"),
        ({"pair.keys": np.zeros(28, np.uint16)}, r"pair\."),
    ],
)
def test_a_tensor_that_is_not_the_models_is_refused_by_name(tmp_path, tensors, message):
    with pytest.raises(BundleError, match=message):
        read_weights(changed(tmp_path, **tensors), SPEC)


def test_biases_are_taken_where_there_are_any(tmp_path):
    bias = np.arange(16, dtype=np.float32)
    found = read_weights(changed(tmp_path, **{"layers.0.o_bias": bias}), SPEC)
    np.testing.assert_array_equal(found["layers.0.o_bias"], bias)
