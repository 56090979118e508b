"""A bundle of each kind of model, for tests of what their graphs share."""

from __future__ import annotations

import pytest

from tiny import random_rows, tiny_bundle, tiny_student
from tiny_llama import PROMPT, tiny_conversion, tiny_source


def student_bundle(folder):
    return tiny_bundle(folder / "bundle", tiny_student(heads=4, kv_heads=2), random_rows(40))


def llama_bundle(folder, prompt=()):
    tiny_source(folder, num_attention_heads=4, num_key_value_heads=2)
    tiny_conversion(folder, prompt=prompt)
    return folder / "bundle"


KINDS = {
    "student": student_bundle,
    "llama": llama_bundle,
    "llama with a prompt": lambda folder: llama_bundle(folder, PROMPT),
}


@pytest.fixture(scope="session", params=KINDS)
def make_bundle(request):
    """A function that writes a bundle of one kind into a folder."""
    return KINDS[request.param]


@pytest.fixture(scope="session")
def folder(make_bundle, tmp_path_factory):
    """The folder of a bundle of one kind."""
    return make_bundle(tmp_path_factory.mktemp("onnx"))
