# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracker_helpers import MIXED, RIGHT, WRONG, Group, assert_same_state, batch, key_array, tracker

from erpo.tracker import PromptTracker, TrackerConfig
from erpo.tracker.schedules import SCHEDULES
from erpo.tracker.storage import load_state, save_state

groups = st.tuples(
    st.integers(0, 9), st.sampled_from([RIGHT, MIXED, WRONG]), st.sampled_from([1.0, 1.05, 1.1]), st.integers(0, 9)
)


@pytest.mark.parametrize("name", ["none", *SCHEDULES])
@given(st.lists(st.lists(groups, max_size=8), max_size=3), st.lists(groups, min_size=1, max_size=8))
@settings(max_examples=20)
def test_save_and_load_is_the_identity(name: str, batches: list[list[Group]], more: list[Group]) -> None:
    saved, loaded = tracker(name), tracker(name)
    loaded.observe(batch((77, RIGHT, 1.0, 0)))  # must be gone after the load
    for groups in batches:
        saved.observe(batch(*groups))
    with tempfile.TemporaryDirectory() as folder:
        save_state(saved, folder, {"step": 3})
        assert load_state(loaded, folder) == {"step": 3}
    assert_same_state(saved, loaded)
    if saved.attaches_temperatures:
        keys = key_array(*range(12))  # known and unknown ones
        assert loaded.temperatures_for(keys).tolist() == saved.temperatures_for(keys).tolist()
    # And both go on alike, also with prompts that are new to them.
    for one in (saved, loaded):
        one.observe(batch(*more, (99, MIXED, 1.0, 9)))
    assert_same_state(saved, loaded)


def test_state_dict_round_trip_copies() -> None:
    one, other = tracker("linear"), tracker("linear")
    one.observe(batch((1, RIGHT, 1.0, 0)))
    other.load_state_dict(one.state_dict())
    other.observe(batch((1, RIGHT, 1.05, 1)))
    assert one.frame()["level"].tolist() == [1] and other.frame()["level"].tolist() == [2]


def test_pandas_reads_the_parquet_file(tmp_path: Path) -> None:
    subject = tracker("linear")
    subject.observe(batch((1, RIGHT, 1.0, 0), (2, MIXED, 1.0, 0)))
    save_state(subject, tmp_path)
    (file,) = tmp_path.glob("tracker-*.parquet")
    frame = pd.read_parquet(file)
    assert [key.hex() for key in frame["key"]] == subject.frame()["key"].tolist()
    assert frame["level"].tolist() == subject.frame()["level"].tolist()


def test_changed_constants_are_used_from_the_load_on(tmp_path: Path) -> None:
    for name, old, new in (
        ("linear", {"dt": 0.1}, {"dt": 0.02}),
        ("band", {"dt": 0.1, "max_factor": 1}, {"t_max": 1.04}),
    ):
        saved, loaded = tracker(name, **old), tracker(name, **new)
        for temperature in (1.0, 1.1):
            saved.observe(batch((1, RIGHT, temperature, 0)))
        assert saved.temperatures_for(key_array(1))[0] == pytest.approx(1.2)
        save_state(saved, tmp_path / name)
        load_state(loaded, tmp_path / name)
        assert loaded.temperatures_for(key_array(1))[0] == pytest.approx(1.04)


def test_changed_data_can_be_accepted(tmp_path: Path) -> None:
    config = TrackerConfig()
    saved, loaded = PromptTracker(config, "old"), PromptTracker(config, "new")
    saved.observe(batch((1, RIGHT, 1.0, 0)))
    save_state(saved, tmp_path)
    load_state(loaded, tmp_path, accept_changed_data=True)
    assert len(loaded) == 1 and loaded.data_fingerprint == "new"


class Crash(Exception):
    """Stands for the end of the process."""


def crash_at(monkeypatch: pytest.MonkeyPatch, number: int, after: bool) -> list[str]:
    """Let the numbered file operation of a save crash, before or after its effect; returns the operations' names."""
    seen: list[str] = []

    def crashing(name: str, operation: Callable) -> Callable:
        def run(*arguments: object, **options: object) -> object:
            seen.append(name)
            if len(seen) - 1 == number and not after:
                raise Crash
            result = operation(*arguments, **options)
            if len(seen) - 1 == number:
                raise Crash
            return result

        return run

    monkeypatch.setattr(os, "fsync", crashing("fsync", os.fsync))
    monkeypatch.setattr(os, "replace", crashing("replace", os.replace))
    monkeypatch.setattr(Path, "unlink", crashing("unlink", Path.unlink))
    return seen


# Parquet: flush the file, rename it, flush the folder; JSON: the same; then drop the old Parquet.
OPERATIONS = ["fsync", "replace", "fsync", "fsync", "replace", "fsync", "unlink"]
JSON_RENAME = 4


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", range(len(OPERATIONS)))
def test_a_crash_leaves_a_whole_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, after: bool
) -> None:
    old, new = tracker("linear"), tracker("linear")
    old.observe(batch((1, RIGHT, 1.0, 0)))
    new.observe(batch((1, MIXED, 1.0, 0), (2, RIGHT, 1.0, 0)))
    save_state(old, tmp_path, {"step": 1})
    with monkeypatch.context() as patch:
        crash_at(patch, number, after)
        with pytest.raises(Crash):
            save_state(new, tmp_path, {"step": 2})

    is_new = (number, after) >= (JSON_RENAME, True)
    loaded = tracker("linear")
    assert load_state(loaded, tmp_path) == {"step": 2 if is_new else 1}
    assert_same_state(loaded, new if is_new else old)
    # The next save works and leaves nothing behind.
    save_state(new, tmp_path, {"step": 2})
    assert len(list(tmp_path.iterdir())) == 2
    assert load_state(loaded, tmp_path) == {"step": 2}


def test_a_save_flushes_before_it_renames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = tracker("linear")
    save_state(subject, tmp_path)
    subject.observe(batch((1, RIGHT, 1.0, 0)))
    seen = crash_at(monkeypatch, number=-1, after=False)
    save_state(subject, tmp_path)
    assert seen == OPERATIONS


def test_saving_the_same_state_twice_keeps_it(tmp_path: Path) -> None:
    subject, loaded = tracker("linear"), tracker("linear")
    subject.observe(batch((1, RIGHT, 1.0, 0)))
    for _ in range(2):
        save_state(subject, tmp_path)
    load_state(loaded, tmp_path)
    assert_same_state(subject, loaded)


def test_many_prompts_survive(tmp_path: Path) -> None:
    subject, loaded = tracker("predictive"), tracker("predictive")
    rng = np.random.default_rng(0)
    kinds = rng.choice([RIGHT, MIXED, WRONG], size=30_000)
    subject.observe(batch(*((prompt, kind, 1.0, 0) for prompt, kind in enumerate(kinds))))
    save_state(subject, tmp_path)
    load_state(loaded, tmp_path)
    assert_same_state(subject, loaded)
