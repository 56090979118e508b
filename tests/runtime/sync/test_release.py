"""What is signed beside a release: written by the publisher, read by the client, refused when it is odd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.errors import SyncError
from pocketrec.runtime.sync.release import (
    CUSTOM_KEY,
    ReleaseInfo,
    check_channel,
    parse_info,
    patch_path,
    runtime_opens,
    split_patch,
    split_path,
    target_path,
)

INFO = ReleaseInfo("stable", 7, "a" * 64, "space", "0.1", 0.25)
PATH = "stable/7/manifest.json"


def test_what_the_publisher_writes_the_client_reads():
    assert parse_info(PATH, INFO.to_custom()) == INFO


def changed(**fields):
    return {CUSTOM_KEY: {**INFO.to_custom()[CUSTOM_KEY], **fields}}


@pytest.mark.parametrize(
    ("custom", "says"),
    [
        (None, "no release data"),
        ({}, "no release data"),
        ({CUSTOM_KEY: []}, "no release data"),
        (changed(schema=2), "schema 2"),
        (changed(release=8), "another release"),
        (changed(channel="beta"), "another release"),
        (changed(model="A" * 64), "model"),
        (changed(model=None), "model"),
        (changed(sid_space=""), "sid_space"),
        (changed(minimum_runtime="newest"), "minimum_runtime"),
        (changed(per_million=1_000_001), "per_million"),
        (changed(per_million=True), "per_million"),
        (changed(per_million=0.5), "per_million"),
    ],
)
def test_odd_release_data_is_refused_by_name(custom, says):
    with pytest.raises(SyncError, match=says):
        parse_info(PATH, custom)


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_only_names_of_the_right_form_are_split(text):
    found = split_path(text)
    assert found is None or target_path(*found) == text


@pytest.mark.parametrize(
    "path", ["stable/0/a", "stable/07/a", "stable/7", "/7/a", "stable/7/../a", "s/9999999999999999/a"]
)
def test_odd_names_are_no_release(path):
    assert split_path(path) is None


def test_a_patch_names_its_base():
    path = patch_path("beta", 3, "trie.safetensors", "0123456789abcdef" * 4)
    assert split_patch(split_path(path)[2]) == ("trie.safetensors", "0123456789abcdef")
    assert split_patch("trie.safetensors") is None


def test_a_larger_share_keeps_the_devices_it_had():
    devices = [f"device-{i}" for i in range(2000)]
    allowed = [
        {d for d in devices if ReleaseInfo("stable", 7, "a" * 64, "s", share=share).allows(d)}
        for share in (0.0, 0.1, 0.5, 1.0)
    ]
    assert allowed[0] == set()
    assert allowed[3] == set(devices)
    assert allowed[0] <= allowed[1] <= allowed[2] <= allowed[3]
    assert 140 < len(allowed[1]) < 260


def test_another_release_goes_to_other_devices_first():
    devices = [f"device-{i}" for i in range(2000)]
    first, second = (
        {d for d in devices if ReleaseInfo("stable", release, "a" * 64, "s", share=0.1).allows(d)} for release in (7, 8)
    )
    assert len(first & second) < len(first) / 2


@pytest.mark.parametrize("channel", ["", "Stable", "a/b", "..", "1st", "x" * 33])
def test_odd_channels_are_refused(channel):
    with pytest.raises(SyncError, match="not the name of a channel"):
        check_channel(channel)


@pytest.mark.parametrize(
    ("minimum", "version", "opens"),
    [
        ("0", "0.1.0", True),
        ("0.1", "0.1.0", True),
        ("0.2", "0.10", True),
        ("0.1.1", "0.1", False),
        ("1", "0.9.9", False),
        ("0.3", "0.3.dev1", True),
    ],
)
def test_a_runtime_opens_what_is_not_newer(minimum, version, opens):
    assert runtime_opens(minimum, version) is opens
