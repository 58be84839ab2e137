# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Observing every finished group before any filter clears it, and dropping the kinds that the method drops."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from erpo.tracker import Outcome
from erpo.trainer.groups import Group
from erpo.trainer.watchdog import Watchdog


class GroupObserver(Protocol):
    """Who is told of groups: the trainer."""

    def observe(self, uids: Iterable[str], tags: dict[str, dict]) -> None:
        """These groups finished; ``tags`` holds the tags of all trajectories."""

    def settle(self, uids: Iterable[str], *, dropped: bool) -> None:
        """These groups leave the buffer, into the training batch or dropped."""


class ObservingReplayBuffer(ReplayBuffer):
    """Mixed into verl's replay buffer of the run's mode (see :func:`observe_groups`)."""

    observer: GroupObserver
    groups: dict[str, Group]
    dropped_outcomes: frozenset[Outcome]
    watchdog: Watchdog | None

    def _dapo_filtered_keys(self, partition_id: str) -> tuple[set[str], Counter]:
        # verl asks at every poll, before it evicts: the one moment at which all finished groups are still there.
        # Its own answer needs np.std(...) == 0.0, which misses constant rewards such as five times 0.11.
        if partition_id == "val":
            return set(), Counter()
        finished = self.finished_keys[partition_id]
        new = finished - self.groups.keys()
        if new:
            self.observer.observe(new, self.partitions[partition_id])
        # A group can finish without any trajectory, when its agent loops returned nothing; that one is verl's business.
        observed = finished & self.groups.keys()
        dropped = {uid for uid in observed if self.groups[uid].outcome in self.dropped_outcomes}
        return dropped, Counter(self.groups[uid].accuracies[0] for uid in dropped)

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        super()._clear_groups(partition_id, uids)
        if partition_id != "val":
            self.observer.settle(uids, dropped=True)

    def _materialize_batch(self, partition_id, selected_prompt_uids, partition_snapshot):  # type: ignore[no-untyped-def]
        if partition_id != "val":
            self.observer.settle(selected_prompt_uids, dropped=False)
        if self.watchdog is not None:
            self.watchdog.reset()
        return super()._materialize_batch(partition_id, selected_prompt_uids, partition_snapshot)

    def _wait_for_next_poll(self, partition_id: str, last_debug_time: float) -> float:
        begin = time.monotonic()
        last_debug_time = super()._wait_for_next_poll(partition_id, last_debug_time)
        if self.watchdog is not None:
            statuses = ("pending", "running", "finished", "failure")
            counts = [f"{len(getattr(self, f'{status}_keys')[partition_id])} {status}" for status in statuses]
            responses = (key for partition in self.partitions.values() for key in partition)
            self.watchdog.waiting(
                time.monotonic() - begin, responses, f"groups of {partition_id!r}, of which {', '.join(counts)}"
            )
        return last_debug_time


def observe_groups(
    buffer: ReplayBuffer,
    observer: GroupObserver,
    groups: dict[str, Group],
    dropped_outcomes: frozenset[Outcome],
    poll_interval: float | None,
    watchdog: Watchdog | None,
) -> ReplayBuffer:
    """Let ``observer`` see the groups of a replay buffer that verl built.

    verl decides the buffer's arguments by its exact class, so the class is extended after construction.

    Args:
        buffer: Any of verl's replay buffers, or a user's own subclass.
        observer: Told of groups that finish and leave.
        groups: uid -> group, filled by the observer; holds every group that finished and has not left.
        dropped_outcomes: Kinds of groups that are dropped and refilled.
        poll_interval: Seconds between two looks into TransferQueue; None keeps verl's.
        watchdog: Ends a wait for responses that cannot come; None waits for ever, as verl does.

    Returns:
        The same buffer.
    """
    buffer.__class__ = type(f"Observing{type(buffer).__name__}", (ObservingReplayBuffer, type(buffer)), {})
    buffer.observer = observer
    buffer.groups = groups
    buffer.dropped_outcomes = dropped_outcomes
    buffer.watchdog = watchdog
    if poll_interval is not None:
        buffer.poll_interval = poll_interval
    return buffer
