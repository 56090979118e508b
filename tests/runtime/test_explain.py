"""Explanations need nothing but the loaded recommender: not its folder, not the directory it was loaded from."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time
import warnings

import pytest

from device_engines import DEVICE_ENGINES, NEEDS_NATIVE
from pocketrec.runtime.engines import reference
from pocketrec.runtime.errors import BundleError
from pocketrec.runtime.recommender import Recommender
from tiny import random_rows, tiny_bundle, tiny_student

HISTORY, ITEM = ["item-1", "item-2"], "item-7"
LAZY_ENGINES = (pytest.param("native", marks=NEEDS_NATIVE), "onnx")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return tiny_bundle(tmp_path_factory.mktemp("explain") / "b", tiny_student(), random_rows(40))


@pytest.fixture
def bundle(source, tmp_path):
    return shutil.copytree(source, tmp_path / "b")


@pytest.fixture(scope="module")
def expected(source):
    with Recommender.load(source, "reference") as rec:
        return rec.explain(HISTORY, ITEM)


def same(found, expected):
    assert found.levels == pytest.approx(expected.levels, abs=1e-5)
    assert [name for name, _ in found.history] == [name for name, _ in expected.history]
    assert [x for _, x in found.history] == pytest.approx([x for _, x in expected.history], abs=1e-5)


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
def test_a_deleted_bundle_is_still_explained(bundle, expected, engine):
    with Recommender.load(bundle, engine) as rec:
        shutil.rmtree(bundle)
        assert rec.recommend(HISTORY)
        same(rec.explain(HISTORY, ITEM), expected)


@pytest.mark.parametrize("engine", DEVICE_ENGINES)
def test_a_bundle_loaded_by_a_relative_path_works_from_any_directory(bundle, expected, engine, tmp_path, monkeypatch):
    monkeypatch.chdir(bundle.parent)
    with Recommender.load(bundle.name, engine) as rec:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        same(rec.explain(HISTORY, ITEM), expected)
        assert rec.session(HISTORY).recommend()  # which opens further graphs, in one of the engines


@pytest.mark.parametrize("engine", LAZY_ENGINES)
def test_a_weight_file_that_was_changed_is_not_explained_from(bundle, engine):
    with Recommender.load(bundle, engine) as rec:
        path = bundle / "model.safetensors"
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        with path.open("r+b") as file:  # in place: it is the file that was checked
            file.write(content)
        with pytest.raises(BundleError, match="was changed"):
            rec.explain(HISTORY, ITEM)


def test_a_graph_that_is_opened_later_says_that_the_bundle_is_gone(bundle):
    with Recommender.load(bundle, "onnx") as rec:
        shutil.rmtree(bundle)
        with pytest.raises(BundleError, match=r"was deleted or moved .*open the bundle again"):
            rec.session(HISTORY).recommend()


@pytest.mark.parametrize("engine", LAZY_ENGINES)
def test_threads_that_explain_at_once_load_the_weights_once(bundle, expected, engine, monkeypatch):
    loads, real = [], reference.parse_weights

    def slow(*arguments):
        loads.append(1)
        time.sleep(0.1)
        return real(*arguments)

    monkeypatch.setattr(reference, "parse_weights", slow)
    with Recommender.load(bundle, engine) as rec:
        found, start = [], threading.Barrier(4)

        def explain():
            start.wait()
            found.append(rec.explain(HISTORY, ITEM))

        threads = [threading.Thread(target=explain) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(loads) == 1
    for one in found:
        same(one, expected)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files as Linux lists them")
@pytest.mark.parametrize("engine", LAZY_ENGINES)
@pytest.mark.parametrize("end", ["closed", "closed after explaining", "forgotten"])
def test_no_file_stays_open(bundle, engine, end):
    def open_weights():
        links = (os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd"))
        return sum(link == str(bundle / "model.safetensors") for link in links)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rec = Recommender.load(bundle, engine)
        assert open_weights() == 1
        if end == "closed after explaining":
            rec.explain(HISTORY, ITEM)
        if end != "forgotten":
            rec.close()
        del rec
        gc.collect()
    assert open_weights() == 0
