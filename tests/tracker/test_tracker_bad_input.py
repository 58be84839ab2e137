# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Everything a user can get wrong is answered by one sentence that names it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tracker_helpers import INCOMPLETE, MIXED, RIGHT, WRONG, assert_same_state, batch, key_array, tracker

from erpo.tracker import (
    GroupOutcomes,
    PromptTracker,
    TrackerConfig,
    TrackerError,
    check_prompts,
    classify,
    keys_array,
    prompt_key,
)
from erpo.tracker.index import KeyIndex
from erpo.tracker.schedules import SCHEDULES
from erpo.tracker.storage import load_state, save_state

SETTINGS: list[tuple[Any, str]] = [
    ([], "tracker must be a mapping of settings, not []"),
    ({"nam": "linear"}, "tracker.nam is not a setting; did you mean 'name'?"),
    ({"name": "liner"}, "there is no schedule 'liner'; did you mean 'linear'?"),
    ({"name": 3}, "there is no schedule 3; choose from constant, rising, linear"),
    ({"linear": 0.05}, "linear must be a mapping of settings, not 0.05"),
    ({"linear": {"tmax": 2}}, "linear.tmax is not a setting; did you mean 't_max'?"),
    ({"linear": {"t_max": 0.9}}, "linear.t_max = 0.9 is below linear.t_base = 1.0; raise t_max or lower t_base"),
    ({"linear": {"dt": 0}}, "linear.dt must be above 0, not 0"),
    ({"linear": {"dt": 1e-5}}, "linear.dt must be above 0.0001"),
    ({"linear": {"dt": "0.05"}}, "linear.dt is '0.05'; it must be of type float"),
    ({"linear": {"dt": True}}, "linear.dt is True; it must be of type float"),
    ({"linear": {"dt": None}}, "linear.dt is None; it must be of type float"),
    ({"linear": {"t_base": float("nan")}}, "linear.t_base must be finite, not nan"),
    ({"linear": {"t_max": float("inf")}}, "linear.t_max must be finite, not inf"),
    ({"linear": {"t_base": -1}}, "linear.t_base must be above 0, not -1"),
    ({"linear": {"on_mixed": "lower"}}, "linear.on_mixed must be 'hold' or 'reset', not 'lower'"),
    ({"name": "constant", "constant": {"temperature": 0}}, "constant.temperature must be above 0, not 0"),
    # Of a schedule that does not run, names and types.
    ({"name": "none", "constant": {"temperature": "hot"}}, "constant.temperature is 'hot'; it must be of type float"),
    ({"name": "none", "constant": {"heat": 1}}, "constant.heat is not a setting; known settings: temperature, t_base"),
    (
        {"name": "rising", "rising": {"t_first": 1.3}},
        "rising.t_max = 1.2 is below rising.t_first = 1.3; raise t_max or lower t_first",
    ),
    ({"name": "rising", "rising": {"steps": None}}, "rising.steps is not set; set the training steps"),
    ({"name": "rising", "rising": {"steps": 0}}, "rising.steps must be above 0, not 0"),
    ({"name": "rising", "rising": {"steps": 2.5}}, "rising.steps is 2.5; it must be of type int"),
    ({"name": "rising", "rising": {"t_base": -1}}, "rising.t_base must be above 0, not -1"),
    (
        {"name": "band", "band": {"low": 0.9, "high": 0.5}},
        "band.low = 0.9 and band.high = 0.5 must satisfy 0 <= low < high <= 1",
    ),
    (
        {"name": "band", "band": {"max_factor": 0.5}},
        "band.max_factor must be between 1 (no doubling) and 1024, not 0.5",
    ),
    (
        {"name": "band", "band": {"floor": 1.1}},
        "band.floor = 1.1 is above band.t_base = 1.0; lower floor or raise t_base",
    ),
    ({"name": "band", "band": {"floor": 0}}, "band.floor must be above 0, not 0"),
    ({"name": "predictive", "predictive": {"target": 1}}, "predictive.target must be between 0 and 1, not 1"),
    ({"name": "predictive", "predictive": {"slope": 0}}, "predictive.slope must be above 0, not 0"),
    (
        {"name": "predictive", "predictive": {"initial_variance": -1}},
        "predictive.initial_variance must be above 0, not -1",
    ),
    ({"name": "predictive", "predictive": {"drift": -0.1}}, "predictive.drift must be 0 or more, not -0.1"),
    ({"name": "fitted", "fitted": {"target": 0}}, "fitted.target must be between 0 and 1, not 0"),
    ({"name": "fitted", "fitted": {"t_max": 0.9}}, "fitted.t_max = 0.9 is below fitted.t_base = 1.0"),
    (
        {"name": "predictive", "predictive": {"global_rate": "on"}},
        "predictive.global_rate is 'on'; it must be of type float",
    ),
]


@pytest.mark.parametrize(("bad", "message"), SETTINGS, ids=[message[:40] for _, message in SETTINGS])
def test_settings(bad: Any, message: str) -> None:
    with pytest.raises(TrackerError) as caught:
        TrackerConfig.from_dict(bad)
    assert message in str(caught.value)


def changed(**fields: Any) -> GroupOutcomes:
    good = {
        "keys": key_array(1, 2),
        "outcomes": np.array([RIGHT, MIXED]),
        "accuracies": np.array([1.0, 0.5]),
        "sizes": np.array([8, 8]),
        "temperatures": np.array([1.0, 1.0]),
        "steps": np.array([0, 0]),
    }
    return GroupOutcomes(**{**good, **fields})


SECOND = "prompt 02000000000000000200000000000000: "
CALLS: list[tuple[Callable[[], Any], str]] = [
    (lambda: changed(accuracies=[1.0, np.nan]), SECOND + "accuracies holds nan; it must be in [0, 1]"),
    (lambda: changed(accuracies=[1.0, -1.0]), SECOND + "accuracies holds -1.0; it must be in [0, 1]"),
    (lambda: changed(outcomes=np.array([2, 258])), SECOND + "outcomes holds 258; it must be 0 to 3"),
    (lambda: changed(sizes=[8, 0]), SECOND + "sizes holds 0; it must be at least 1"),
    (lambda: changed(temperatures=[1, 0]), SECOND + "temperatures holds 0.0; it must be positive and finite"),
    (lambda: changed(temperatures=[1, np.inf]), SECOND + "temperatures holds inf; it must be positive and finite"),
    (lambda: changed(steps=[0, -1]), SECOND + "steps holds -1; it must be 0 or more"),
    (lambda: changed(steps=[0]), "steps has shape (1,), keys have shape (2,); pass one value per group"),
    (lambda: changed(keys=np.arange(2)), "keys must be a flat array of KEY_DTYPE; make it with keys_array()"),
    (lambda: tracker("linear").temperatures_for(np.arange(2)), "keys must be a flat array of KEY_DTYPE"),
    (lambda: tracker("none").temperatures_for(key_array(1)), "the schedule 'none' has no temperatures"),
    (lambda: KeyIndex(key_array(1, 2, 1)), "key 01000000000000000100000000000000 occurs twice; keep one"),
    (lambda: keys_array([b"short"]), "a prompt key must have 16 bytes; make keys with prompt_key()"),
    (lambda: classify([1.0] * 9, 8, prompt="q7"), "prompt 'q7': 9 accuracies for a group of 8 responses"),
    (lambda: classify([1.0, None], 2, prompt="q7"), "prompt 'q7': the accuracy of response 1 is None"),
    (lambda: classify([np.nan], 2, prompt="q7"), "prompt 'q7': the accuracy of response 0 is nan"),
    (lambda: classify([], 0, prompt="q7"), "prompt 'q7': a group of 0 responses was asked for; ask for at least 1"),
    (lambda: prompt_key("a", "x", ""), "extra_info.prompt_id is an empty string"),
    (lambda: prompt_key("a", "x", 1.0), "extra_info.prompt_id 1.0 is of type float; make it a string or an integer"),
    (lambda: prompt_key("a", "x", True), "extra_info.prompt_id True is of type bool"),
    (lambda: prompt_key(None, "x"), "data_source is of type NoneType; make it a string"),
    (lambda: prompt_key("a", None), "the prompt is of type NoneType; make it a string or a list of {role, content}"),
    (
        lambda: prompt_key("a", [{"role": "user", "content": [{"image": object()}]}]),
        "the prompt holds a value of type object, which is not JSON; set extra_info.prompt_id for it",
    ),
    (lambda: prompt_key("a", [{"content": np.nan}]), "the prompt holds the number nan, which is not JSON"),
    (lambda: check_prompts([("a", "x", None), ("a", object(), None)]), "row 1: the prompt is of type object"),
]


@pytest.mark.parametrize(("call", "message"), CALLS, ids=[message[-40:] for _, message in CALLS])
def test_calls(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(TrackerError) as caught:
        call()
    assert message in str(caught.value)


def test_accuracy_of_an_incomplete_group_is_free() -> None:
    assert len(changed(outcomes=[RIGHT, INCOMPLETE], accuracies=[1.0, np.nan], sizes=[8, 0])) == 2


def remove_json(folder: Path) -> None:
    (folder / "tracker.json").unlink()


def cut_json(folder: Path) -> None:
    content = (folder / "tracker.json").read_bytes()
    (folder / "tracker.json").write_bytes(content[: len(content) // 2])


def edit_json(change: Callable[[dict], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        content = json.loads((folder / "tracker.json").read_text())
        change(content)
        (folder / "tracker.json").write_text(json.dumps(content))

    return edit


def parquet(folder: Path) -> Path:
    (file,) = folder.glob("tracker-*.parquet")
    return file


def cut_parquet(folder: Path) -> None:
    parquet(folder).write_bytes(parquet(folder).read_bytes()[:-10])


def flip_parquet(folder: Path) -> None:
    content = bytearray(parquet(folder).read_bytes())
    content[len(content) // 2] ^= 1
    parquet(folder).write_bytes(content)


STATES: list[tuple[Callable[[Path], Any], str]] = [
    (remove_json, "tracker.json is missing; choose a folder that a save was made to"),
    (cut_json, "tracker.json is not JSON, so it was damaged; choose another checkpoint"),
    (lambda folder: (folder / "tracker.json").write_text("[]"), "tracker.json does not hold a tracker state"),
    (edit_json(lambda content: content.pop("scalars")), "is not a whole tracker state (KeyError('scalars'))"),
    (edit_json(lambda content: content.update(format_version=2)), "format version 2, this version reads 1"),
    (
        edit_json(lambda content: content["settings"].update(name="band")),
        "saved with the schedule 'band', this run has 'predictive'; set the schedule to 'band', start without",
    ),
    (
        edit_json(lambda content: content.update(data_fingerprint="f00")),
        "the state belongs to data with fingerprint 'f00', this run's data has ''; use the same data or accept",
    ),
    (lambda folder: parquet(folder).unlink(), "which tracker.json names, is missing; restore it or choose another"),
    (cut_parquet, "so it was cut; choose another checkpoint"),
    (flip_parquet, "does not match its checksum, so it was damaged; choose another checkpoint"),
]


@pytest.mark.parametrize(("damage", "message"), STATES, ids=[message[:40] for _, message in STATES])
def test_states(tmp_path: Path, damage: Callable[[Path], Any], message: str) -> None:
    saved, loading = tracker("predictive"), tracker("predictive")
    saved.observe(batch((1, RIGHT, 1.0, 0)))
    loading.observe(batch((2, MIXED, 1.0, 0)))
    before = loading.frame()
    save_state(saved, tmp_path)
    damage(tmp_path)
    with pytest.raises(TrackerError) as caught:
        load_state(loading, tmp_path)
    assert message in str(caught.value)
    assert loading.frame().equals(before)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_state_that_lacks_something_changes_nothing(tmp_path: Path, name: str) -> None:
    saved, loading = tracker(name), tracker(name)
    saved.observe(batch((1, RIGHT, 1.0, 3)))
    loading.observe(batch((2, MIXED, 1.0, 1)))
    frame, metrics = loading.frame(), loading.metrics()
    removals = [edit_json(lambda content: content.pop("incomplete_groups"))]
    scalars = [key.removeprefix("erpo/schedule/") for key in metrics if key.startswith("erpo/schedule/")]
    removals += [edit_json(lambda content, scalar=scalar: content["scalars"].pop(scalar)) for scalar in scalars]
    for remove in removals:
        save_state(saved, tmp_path)
        remove(tmp_path)
        with pytest.raises(TrackerError, match="is not a whole tracker state"):
            load_state(loading, tmp_path)
        assert loading.frame().equals(frame) and loading.metrics() == metrics


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_that_takes_over_starts_anew_whatever_it_had_seen(tmp_path: Path, name: str) -> None:
    saved, loading, fresh = tracker("none"), tracker(name), tracker(name)
    saved.observe(batch((1, MIXED, 1.0, 3)))
    save_state(saved, tmp_path)
    loading.observe(batch((2, WRONG, 1.2, 1), (3, RIGHT, 1.2, 1)))
    for one in (loading, fresh):
        load_state(one, tmp_path, accept_changed_schedule=True)
    assert_same_state(loading, fresh)
    assert loading.metrics() == fresh.metrics()


def test_extra_must_be_json(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match=r"extra cannot be saved as JSON .*; pass strings, numbers, lists and dicts"):
        save_state(tracker("linear"), tmp_path / "new", {"rng": object()})
    assert not (tmp_path / "new").exists()


def test_columns_that_do_not_fit() -> None:
    subject = tracker("linear")
    subject.observe(batch((1, RIGHT, 1.0, 0)))
    state = subject.state_dict()
    for change, message in (
        ({"level": state["columns"]["level"].astype(np.int64)}, "the saved column 'level' is int64 of shape (1,)"),
        ({"level": np.zeros(2, np.int32)}, "the saved column 'level' is int32 of shape (2,)"),
        ({"heat": np.zeros(1)}, "this version needs"),
    ):
        with pytest.raises(TrackerError) as caught:
            PromptTracker(subject.config).load_state_dict({**state, "columns": {**state["columns"], **change}})
        assert message in str(caught.value)
