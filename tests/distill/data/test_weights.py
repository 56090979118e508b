"""Weights of events: from a column, by type and by age; they travel with the events through cleaning and splits."""

from __future__ import annotations

import numpy as np
import pytest

from pocketrec.distill.config import DataConfig
from pocketrec.distill.data.augment import augment
from pocketrec.distill.data.splits import Sequences, split_users
from pocketrec.distill.data.storage import load_split, save_dataset
from pocketrec.distill.data.weights import aged
from pocketrec.runtime.errors import DataError
from tests.small_logs import LOG, assert_accounted, check, finding, histories, load, rows_of

TYPES = "user,item,ts,event\nu,1,1600000003,buy\nu,2,1600000001,view\nv,1,1600000001,\nv,3,1600000002,gift\n"
DAY = 86_400


def weights_of(dataset):
    """Weights by user, in the order of the history."""
    users = dataset.users
    return {u: users.weights[users.starts[i] : users.ends[i]].tolist() for i, u in enumerate(dataset.user_ids)}


def test_a_column_gives_events_their_weights_in_the_order_of_the_history(tmp_path):
    log = "user,item,ts,worth\nu,1,1600000003,2.5\nu,2,1600000001,0\nv,1,1600000001,1e3\n"
    dataset = load(tmp_path, log, config=DataConfig(weight="worth"))
    assert histories(dataset) == {"u": ["2", "1"], "v": ["1"]}
    assert weights_of(dataset) == {"u": [0, 2.5], "v": [1000]}


def test_rows_without_a_sound_weight_are_rejected_and_counted(tmp_path):
    bad = ["", "x", "-1", "nan", "inf", "1e60"]
    log = "user,item,ts,w\nu,1,1600000001,1\n" + "".join(f"u,{i},1600000002,{b}\n" for i, b in enumerate(bad))
    report = check(tmp_path, log, config=DataConfig(weight="w", max_bad_share=0.99))
    assert rows_of(report, "D315") == [3, 4, 5, 6, 7, 8]
    assert report.counts.events == 1
    assert_accounted(report)
    with pytest.raises(DataError, match=r"D315.*refused \(bad_rows = refuse\)"):
        load(tmp_path, log, config=DataConfig(weight="w", bad_rows="refuse"))


def test_types_of_events_have_weights_and_keep_all_rows(tmp_path):
    dataset = load(tmp_path, TYPES, config=DataConfig(event_weights="buy=8, view=0.5"))
    assert weights_of(dataset) == {"u": [0.5, 8], "v": [1, 1]}
    assert rows_of(dataset.report, "D316") == [4, 5]  # without a type, and of a type that is not named
    assert finding(dataset.report, "D316").severity == "warning"


def test_column_and_type_multiply(tmp_path):
    log = "user,item,ts,event,w\nu,1,1600000001,buy,3\nu,2,1600000002,view,3\n"
    dataset = load(tmp_path, log, config=DataConfig(weight="w", event_weights={"buy": 2, "view": 1}))
    assert weights_of(dataset) == {"u": [6, 3]}


def test_of_repeats_of_an_event_the_largest_weight_stays(tmp_path):
    log = "user,item,ts,event\nu,1,1600000001,view\nu,2,1600000001,view\nu,1,1600000001,buy\nv,1,1600000001,view\n"
    config = DataConfig(event_weights="buy=8, view=1")
    dataset = load(tmp_path, log, config=config)
    assert histories(dataset) == {"u": ["1", "2"], "v": ["1"]}
    assert weights_of(dataset) == {"u": [8, 1], "v": [1]}


def test_without_a_setting_events_have_no_weights_and_their_file_none(tmp_path):
    from safetensors.numpy import load_file

    dataset = load(tmp_path, LOG)
    assert dataset.users.weights is None
    save_dataset(dataset, tmp_path)
    assert "weights" not in load_file(tmp_path / "events.safetensors")


def test_a_column_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"no column named 'worth' \(data\.weight\)"):
        load(tmp_path, LOG, config=DataConfig(weight="worth"))


def test_a_log_of_weightless_events_is_refused(tmp_path):
    with pytest.raises(DataError, match="D407"):
        load(tmp_path, TYPES, config=DataConfig(event_weights={"buy": 0, "view": 0, "gift": 0, "": 0}, event="event",
                                                keep_events=("buy", "view")))  # fmt: skip


@pytest.mark.parametrize(
    "log", ["user,item,position\nu,1,1\nu,2,2\n", "user,item,timestamp\nu,1,1\nu,2,2\n", "user,item\nu,1\nu,2\n"]
)
def test_a_half_life_needs_points_in_time(tmp_path, log):
    with pytest.raises(DataError, match=r"D317.*half_life needs.*set data\.timestamp"):
        load(tmp_path, log, config=DataConfig(half_life=7))


def test_training_events_lose_weight_with_age_on_the_way_to_the_split(tmp_path):
    start = 1_600_000_000
    rows = [(i, start + day * DAY) for i, day in enumerate([0, 7, 14, 21, 28])]
    log = "user,item,ts,w\n" + "".join(f"u,{i},{t},4\n" for i, t in rows)
    config = DataConfig(weight="w", half_life=7)
    save_dataset(load(tmp_path, log, config=config), tmp_path)
    train = load_split(tmp_path, config).train  # three events: the newest of training is that of day 14
    assert train.event_weights().tolist() == pytest.approx([1, 2, 4])
    alone = load_split(tmp_path, DataConfig(weight="w")).train
    assert alone.event_weights().tolist() == [4, 4, 4]


def test_events_after_the_newest_of_training_do_not_grow():
    assert aged(None, np.array([0, 2 * DAY * 10**6]), DAY * 10**6, 1.0).tolist() == [0.5, 1]


def test_weights_stay_with_their_events_where_histories_are_chosen_cut_and_copied():
    items = np.arange(12, dtype=np.int32)
    users = Sequences(items, np.array([0, 4, 8]), np.array([4, 8, 12]), items.astype(np.float32))
    for part in (users.take(np.array([2, 0])), users.last(2), split_users(users, None, DataConfig()).train,
                 augment(users, 2, 0.3, 0.5)):  # fmt: skip
        assert part.event_weights().tolist() == part.events().tolist()
