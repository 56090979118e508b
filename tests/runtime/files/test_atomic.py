"""Files and folders are written whole or not at all, whatever fails and whenever the process dies."""

from __future__ import annotations

import contextlib
import itertools

import pytest

from file_faults import Killed, fail_at
from pocketrec.runtime.files.atomic import (
    atomic_file,
    atomic_folder,
    atomic_write,
    atomic_write_text,
    begin_folder,
    discard_unfinished,
    link_or_copy,
    old_folder,
    put_in_place,
)


def write_folder(path):
    with atomic_folder(path) as partial:
        for name in ("a", "b/c"):
            (partial / name).parent.mkdir(exist_ok=True)
            (partial / name).write_bytes(b"new")


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_new_file_and_a_replaced_one_have_the_content_that_was_given(tmp_path):
    for text in ("first", "zweite\nZeile é"):
        atomic_write_text(tmp_path / "file", text)
        assert (tmp_path / "file").read_bytes() == text.encode()
    atomic_write(tmp_path / "file", [b"a", memoryview(b"bc")])
    assert contents(tmp_path) == {"file": b"abc"}  # and nothing else lies there


@pytest.mark.parametrize("error", [Killed, OSError(28, "No space left on device")], ids=["killed", "disk full"])
def test_a_file_is_old_or_new_whatever_call_fails(tmp_path, error):
    for number in itertools.count(1):
        (tmp_path / "file").write_bytes(b"old")
        with pytest.MonkeyPatch.context() as patch:
            count = fail_at(patch, number, error)
            with contextlib.suppress(Killed, OSError):
                atomic_write(tmp_path / "file", [b"n", b"ew"])
        assert (tmp_path / "file").read_bytes() in (b"old", b"new")
        if count[0] < number:
            break
    assert number > 4


@pytest.mark.parametrize("error", [Killed, OSError(28, "No space left on device")], ids=["killed", "disk full"])
def test_a_folder_is_old_or_new_whatever_call_fails(tmp_path, error):
    folder, new = tmp_path / "folder", {"a": b"new", "b/c": b"new"}
    for number in itertools.count(1):
        write_folder(folder)
        (folder / "a").write_bytes(b"old")
        old = contents(folder)
        with pytest.MonkeyPatch.context() as patch:
            count = fail_at(patch, number, error)
            with contextlib.suppress(Killed, OSError):
                write_folder(folder)
        found = folder if folder.exists() else old_folder(folder)
        assert contents(found) in (old, new)
        assert error is Killed or folder.exists()  # what only failed was put back
        if count[0] < number:
            break
    assert number > 8
    write_folder(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with contextlib.suppress(KeyError), atomic_file(tmp_path / "file") as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "file"):
        pass  # nothing was written
    assert contents(tmp_path) == {"file": b"old"}


def test_what_a_killed_process_left_of_a_file_is_discarded_and_nothing_else(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    for name in ("file", "file.b"):
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            fail_at(patch, 3, Killed)
            atomic_write(tmp_path / name, [b"n", b"ew"])
    (other,) = tmp_path.glob(".file.b.*.tmp")
    assert len(list(tmp_path.iterdir())) == 3
    discard_unfinished(tmp_path / "file")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "file", other])


def test_a_block_that_raises_leaves_the_old_folder_and_nothing_else(tmp_path):
    write_folder(tmp_path / "folder")
    with contextlib.suppress(KeyError), atomic_folder(tmp_path / "folder") as partial:
        (partial / "a").write_bytes(b"half")
        raise KeyError
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert contents(tmp_path / "folder") == {"a": b"new", "b/c": b"new"}


def test_what_an_earlier_attempt_left_is_not_in_the_new_folder(tmp_path):
    (begin_folder(tmp_path / "folder") / "left").write_bytes(b"")
    partial = begin_folder(tmp_path / "folder")
    (partial / "a").write_bytes(b"")
    put_in_place(partial, tmp_path / "folder")
    assert contents(tmp_path) == {"folder/a": b""}


def test_without_hard_links_a_copy_is_made(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "source").write_bytes(b"content")
    link_or_copy(tmp_path / "source", tmp_path / "target")
    assert contents(tmp_path) == {"source": b"content", "target": b"content"}
