# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Which finished groups the replay buffer drops, without TransferQueue."""

from types import SimpleNamespace

import pytest

from erpo.tracker import Outcome
from erpo.trainer.replay_buffer import ObservingReplayBuffer


def buffer_with(observed: dict[str, Outcome], *, dropped: frozenset[Outcome]):
    """A buffer in which group "empty" finished without a trajectory, and the others as given."""
    buffer = object.__new__(ObservingReplayBuffer)
    buffer.finished_keys = {"train": {"empty", *observed}}
    buffer.partitions = {"train": {}}
    buffer.groups = {}
    buffer.dropped_outcomes = dropped

    def observe(uids, tags):
        known = {uid: SimpleNamespace(outcome=observed[uid], accuracies=[0.0]) for uid in uids if uid in observed}
        buffer.groups.update(known)

    buffer.observer = SimpleNamespace(observe=observe)
    return buffer


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ([], set()),
        ([Outcome.ALL_WRONG], {"wrong"}),
        ([Outcome.ALL_WRONG, Outcome.ALL_CORRECT], {"wrong", "right"}),
    ],
)
def test_only_the_kinds_of_the_method_are_dropped_and_an_empty_group_is_left_to_verl(kinds, expected):
    observed = {"wrong": Outcome.ALL_WRONG, "right": Outcome.ALL_CORRECT, "mixed": Outcome.MIXED}
    dropped, counts = buffer_with(observed, dropped=frozenset(kinds))._dapo_filtered_keys("train")
    assert dropped == expected
    assert sum(counts.values()) == len(expected)
