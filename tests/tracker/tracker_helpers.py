# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Short ways to make keys, batches and trackers."""

from typing import Any

import numpy as np

from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array
from erpo.tracker.keys import KeyArray

RIGHT, MIXED, WRONG, INCOMPLETE = Outcome.ALL_CORRECT, Outcome.MIXED, Outcome.ALL_WRONG, Outcome.INCOMPLETE
ACCURACY = {RIGHT: 1.0, MIXED: 0.75, WRONG: 0.0, INCOMPLETE: np.nan}

Group = tuple[int, Outcome, float, int] | tuple[int, Outcome, float, int, float]


def key_array(*numbers: int) -> KeyArray:
    """Keys that differ in all their bytes' places, one per number."""
    return keys_array([number.to_bytes(8, "little") * 2 for number in numbers])


def batch(*groups: Group, size: int = 8) -> GroupOutcomes:
    """Groups of (prompt number, outcome, temperature, step[, accuracy])."""
    return GroupOutcomes(
        keys=key_array(*(group[0] for group in groups)),
        outcomes=np.array([group[1] for group in groups], dtype=np.int8),
        accuracies=np.array([group[4] if len(group) == 5 else ACCURACY[group[1]] for group in groups]),
        sizes=np.full(len(groups), size, dtype=np.int32),
        temperatures=np.array([group[2] for group in groups], dtype=np.float64),
        steps=np.array([group[3] for group in groups], dtype=np.int64),
    )


def tracker(name: str, **settings: Any) -> PromptTracker:
    """A tracker whose schedule has these settings; linear climbs in small steps, whatever the defaults are."""
    if name == "linear":
        settings = {"dt": 0.05, "t_max": 1.2} | settings
    sections = {name: settings} if settings else {}
    return PromptTracker(TrackerConfig.from_dict({"name": name, **sections}))


def visit(tracker: PromptTracker, outcome: Outcome, accuracy: float | None = None, step: int = 0) -> float:
    """One visit of prompt 1 at its present temperature; returns the next temperature."""
    present = float(tracker.temperatures_for(key_array(1))[0])
    accuracy = ACCURACY[outcome] if accuracy is None else accuracy
    # As a temperature comes back from a rollout.
    tracker.observe(batch((1, outcome, float(np.float32(present)), step, accuracy)))
    return float(tracker.temperatures_for(key_array(1))[0])


def assert_same_state(one: PromptTracker, other: PromptTracker) -> None:
    """Equal to the last bit."""
    first, second = one.state_dict(), other.state_dict()
    np.testing.assert_array_equal(first["keys"], second["keys"])
    assert first["columns"].keys() == second["columns"].keys()
    for name, column in first["columns"].items():
        assert column.dtype == second["columns"][name].dtype
        np.testing.assert_array_equal(column, second["columns"][name], err_msg=name)
    assert first["meta"] == second["meta"]
