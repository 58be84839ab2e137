# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tracker over whole batches: order, twins, bounds, revival, metrics."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tracker_helpers import (
    ACCURACY,
    INCOMPLETE,
    MIXED,
    RIGHT,
    WRONG,
    Group,
    assert_same_state,
    batch,
    key_array,
    tracker,
    visit,
)

from erpo.tracker import PromptTracker
from erpo.tracker.schedules import SCHEDULES

ONE = key_array(1)
SETTINGS: list[tuple[str, dict]] = [
    ("none", {}),
    ("constant", {"temperature": 1.4}),
    ("rising", {"t_first": 1.1, "t_max": 1.7, "steps": 3}),
    ("linear", {}),
    ("linear", {"on_mixed": "reset"}),
    ("band", {"floor": 0.8}),
    ("predictive", {"t_max": 1.8}),
    ("fitted", {"t_max": 1.8}),
]

outcomes = st.sampled_from([RIGHT, MIXED, WRONG, INCOMPLETE])
# Few prompts, so that batches hold twins; temperatures on and off the schedule.
groups = st.builds(
    lambda prompt, outcome, temperature, step, accuracy: (
        (prompt, outcome, temperature, step, accuracy if outcome is MIXED else ACCURACY[outcome])
    ),
    st.integers(0, 5),
    outcomes,
    st.sampled_from([1.0, 1.05, 1.1, 1.2]),
    st.integers(0, 2),
    st.sampled_from([0.125, 0.5, 0.75, 0.9375]),
)
batches = st.lists(st.lists(groups, max_size=10), min_size=1, max_size=4)


@pytest.mark.parametrize(("name", "options"), SETTINGS)
@given(batches, st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_order_inside_a_batch_does_not_matter(
    name: str, options: dict, batches: list[list[Group]], shuffler: random.Random
) -> None:
    one, other = tracker(name, **options), tracker(name, **options)
    for groups in batches:
        order = list(range(len(groups)))
        shuffler.shuffle(order)
        first = one.observe(batch(*groups))
        second = other.observe(batch(*(groups[position] for position in order)))
        assert_same_state(one, other)
        # Equal groups are interchangeable, so compare what was said about them as multisets.
        told = [
            sorted(zip(map(repr, seen), result.revived, result.previous_outcome, strict=True))
            for seen, result in ((groups, first), ([groups[position] for position in order], second))
        ]
        assert told[0] == told[1]


@pytest.mark.parametrize(("name", "options"), SETTINGS[1:])
@given(batches)
@settings(max_examples=40)
def test_temperatures_stay_within_bounds(name: str, options: dict, batches: list[list[Group]]) -> None:
    subject = tracker(name, **options)
    section = getattr(subject.config, name)
    highest = section.temperature if name == "constant" else section.t_max
    lowest = {"constant": highest, "band": options.get("floor"), "rising": options.get("t_first")}.get(
        name, section.t_base
    )
    for step, groups in enumerate(batches):
        present = subject.temperatures_for(key_array(*(group[0] for group in groups)))
        now = [
            (group[0], group[1], temperature, step, group[4])
            for group, temperature in zip(groups, present, strict=True)
        ]
        subject.observe(batch(*now))
        temperatures = subject.temperatures_for(key_array(*range(7)))
        assert (temperatures >= lowest).all() and (temperatures <= highest).all()


@pytest.mark.parametrize(("name", "options"), [("linear", {}), ("linear", {"on_mixed": "reset"}), ("band", {})])
@given(st.lists(st.tuples(st.sampled_from([RIGHT, MIXED, WRONG]), st.sampled_from([0.5, 0.625, 0.875])), max_size=12))
@settings(max_examples=40)
def test_mixed_never_raises(name: str, options: dict, visits: list) -> None:
    subject = tracker(name, **options)
    before = 1.0
    for outcome, accuracy in visits:
        after = visit(subject, outcome, accuracy if outcome is MIXED else None)
        assert outcome is not MIXED or after <= before
        before = after


@pytest.mark.parametrize("name", ["linear", "band"])
@pytest.mark.parametrize("copies", [2, 3])
@pytest.mark.parametrize("together", [True, False])
def test_twins_in_flight_raise_once(name: str, copies: int, together: bool) -> None:
    subject = tracker(name)
    twin = (1, RIGHT, float(np.float32(1.0)), 5)
    for groups in [[twin] * copies] if together else [[twin]] * copies:
        subject.observe(batch(*groups, (2, MIXED, 1.0, 5)))
    assert subject.temperatures_for(ONE)[0] == pytest.approx(1.05)
    assert subject.frame()["visits"].tolist() == [copies, 1 if together else copies]
    # The next group, sampled at 1.05, raises again: by one step, or in the band's second raise by two.
    assert visit(subject, RIGHT) == pytest.approx(1.10 if name == "linear" else 1.15)


def test_twins_at_the_cap_leave_the_level() -> None:
    subject = tracker("linear", t_max=1.05)
    subject.observe(batch((1, RIGHT, 1.0, 0)))
    for _ in range(2):
        subject.observe(batch(*[(1, RIGHT, 1.05, 1)] * 3))
    assert subject.frame()["level"].tolist() == [1]
    assert subject.capped_visits_for(key_array(1, 2)).tolist() == [6, 0]


def test_late_twin_of_the_band_keeps_the_streak() -> None:
    subject = tracker("band", t_max=2.0)
    visit(subject, RIGHT)
    subject.observe(batch((1, MIXED, 1.0, 0, 0.75)))
    assert visit(subject, RIGHT) == pytest.approx(1.15)


def test_revived_is_mixed_after_all_correct() -> None:
    for previous, now in itertools.product((RIGHT, MIXED, WRONG), repeat=2):
        subject = tracker("none")
        first = subject.observe(batch((1, previous, 1.0, 0)))
        second = subject.observe(batch((2, now, 1.0, 1), (1, now, 1.0, 1)))
        assert first.previous_outcome.tolist() == [-1] and not first.revived.any()
        assert second.revived.tolist() == [False, previous is RIGHT and now is MIXED]
        assert second.previous_outcome.tolist() == [-1, previous]
        assert subject.frame()["revivals"].sum() == second.revived.sum()


def test_a_prompt_is_revived_once_by_its_twins() -> None:
    subject = tracker("linear")
    subject.observe(batch((1, RIGHT, 1.0, 0)))
    seen = subject.observe(batch((1, RIGHT, 1.05, 1), (1, MIXED, 1.05, 1), (1, MIXED, 1.05, 1)))
    assert seen.revived.sum() == 1 and seen.revived[0] == 0


def test_history_columns() -> None:
    subject = tracker("linear")
    for step, outcome in enumerate([RIGHT, RIGHT, MIXED, RIGHT]):
        visit(subject, outcome, step=step)
    row = subject.frame().iloc[0]
    assert row["key"] == "01000000000000000100000000000000"
    assert row["visits"] == 4 and row["all_correct_visits"] == 3 and row["streak"] == 1 and row["revivals"] == 1
    assert row["level"] == 3 and row["last_accuracy"] == 1.0 and row["last_step"] == 3 and row["last_outcome"] == RIGHT
    assert row["last_temperature"] == pytest.approx(1.10) and row["temperature"] == pytest.approx(1.15)


def test_incomplete_groups_change_nothing() -> None:
    subject, untouched = tracker("predictive"), tracker("predictive")
    for one in (subject, untouched):
        one.observe(batch((1, RIGHT, 1.0, 0)))
    seen = subject.observe(batch((1, INCOMPLETE, 1.0, 1), (2, INCOMPLETE, 1.0, 1)))
    assert seen.previous_outcome.tolist() == [RIGHT, -1] and not seen.revived.any()
    assert subject.metrics()["erpo/tracker/incomplete_groups"] == 2
    assert subject.frame().equals(untouched.frame())
    assert len(subject) == 1


def test_metrics() -> None:
    subject = tracker("linear")
    assert subject.metrics() == {"erpo/tracker/seen_prompts": 0, "erpo/tracker/incomplete_groups": 0}
    subject.observe(batch((1, RIGHT, 1.0, 0), (2, RIGHT, 1.0, 0), (3, MIXED, 1.0, 0), (4, WRONG, 1.0, 0)))
    subject.observe(batch((1, MIXED, 1.05, 1)))
    for _ in range(3):
        present = float(subject.temperatures_for(key_array(2))[0])
        subject.observe(batch((2, RIGHT, present, 2)))
    assert subject.metrics() == pytest.approx(
        {
            "erpo/tracker/seen_prompts": 4,
            "erpo/tracker/incomplete_groups": 0,
            "erpo/residual/share_of_seen_prompts": 1 / 4,
            "erpo/residual/all_wrong_share_of_seen_prompts": 1 / 4,
            "erpo/residual/ever_revived_share_of_seen_prompts": 1 / 4,
            "erpo/temperature/prompts_mean": (1.05 + 1.2 + 1 + 1) / 4,
            "erpo/temperature/prompts_max": 1.2,
            "erpo/temperature/prompts_frac_raised": 2 / 4,
            "erpo/temperature/prompts_frac_at_cap": 1 / 4,
        }
    )


@pytest.mark.parametrize("name", ["none", *SCHEDULES])
def test_metrics_over_many_prompts_are_those_of_the_frame(name: str) -> None:
    rng = np.random.default_rng(0)
    subject = tracker(name)
    for step in range(3):
        kinds = rng.choice([RIGHT, MIXED, WRONG], size=20_000)
        subject.observe(batch(*((prompt, kind, 1.0, step, ACCURACY[kind]) for prompt, kind in enumerate(kinds))))
    metrics, frame = subject.metrics(), subject.frame()
    assert metrics["erpo/residual/share_of_seen_prompts"] == pytest.approx((frame["last_outcome"] == RIGHT).mean())
    assert ("temperature" in frame) == subject.attaches_temperatures == (name != "none")
    if subject.attaches_temperatures:
        assert metrics["erpo/temperature/prompts_mean"] == pytest.approx(frame["temperature"].mean())
        assert metrics["erpo/temperature/prompts_max"] == frame["temperature"].max()
        assert metrics["erpo/temperature/prompts_frac_raised"] == pytest.approx((frame["temperature"] > 1.0001).mean())


def test_history_grows_and_keeps_values() -> None:
    subject, keys = tracker("linear"), range(5_000)
    for start in range(0, 5_000, 500):
        subject.observe(batch(*((prompt, RIGHT, 1.0, start) for prompt in keys[start : start + 500])))
    assert (subject.temperatures_for(key_array(*keys)) == 1.05).all()
    assert subject.temperatures_for(key_array(9_999))[0] == 1.0


def test_empty_batch() -> None:
    subject = tracker("predictive")
    assert subject.observe(batch()).revived.shape == (0,)
    assert isinstance(subject, PromptTracker) and len(subject) == 0
