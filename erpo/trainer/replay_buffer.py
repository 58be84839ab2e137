# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Observing every finished group before any filter clears it, and dropping kinds of groups within bounds."""

import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import Protocol

from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from erpo.trainer.config import GroupsConfig
from erpo.trainer.groups import Group
from erpo.trainer.watchdog import Watchdog

# Why a group leaves without being trained on.
FILTERED, STALE, FAILED, SURPLUS = "filtered", "stale", "failed", "surplus"


class GroupObserver(Protocol):
    """Who is told of groups: the trainer."""

    def observe(self, uids: Iterable[str], tags: dict[str, dict]) -> None:
        """These groups finished; ``tags`` holds the tags of all trajectories."""

    def settle(self, uids: Iterable[str], drop_reason: str | None) -> None:
        """These groups leave the buffer: into the training batch (None), or dropped for a reason."""

    def reason_to_drop_no_more(self, dropped: int, batch_size: int) -> str | None:
        """Asked while a batch of ``batch_size`` groups is sampled, of which ``dropped`` were dropped so far."""


class ObservingReplayBuffer(ReplayBuffer):
    """Mixed into verl's replay buffer of the run's mode (see :func:`observe_groups`)."""

    observer: GroupObserver
    groups: dict[str, Group]
    settings: GroupsConfig
    watchdog: Watchdog | None
    _batch_size: int
    _dropped: int
    _reasons: dict[str, str]

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict]:
        if partition_id != "val":
            self._batch_size, self._dropped = batch_size, 0
        return super().sample(global_steps, partition_id, batch_size)

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
        kinds = {uid: self.groups[uid].outcome for uid in finished & self.groups.keys()}
        dropped = {uid for uid, kind in kinds.items() if kind in self.settings.dropped_outcomes}
        if dropped and self.observer.reason_to_drop_no_more(self._dropped, self._batch_size):
            return set(), Counter()
        return dropped, Counter(float(kinds[uid]) for uid in dropped)

    def _evict_terminal_groups(self, global_steps, partition_id, eviction_reasons):  # type: ignore[no-untyped-def]
        stale, filtered, failed, _ = eviction_reasons
        self._reasons = {
            **dict.fromkeys(failed, FAILED),
            **dict.fromkeys(filtered, FILTERED),
            **dict.fromkeys(stale, STALE),
        }
        self._dropped += len(filtered)
        return super()._evict_terminal_groups(global_steps, partition_id, eviction_reasons)

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        super()._clear_groups(partition_id, uids)
        if partition_id != "val":
            for uid in uids:
                self.observer.settle([uid], self._reasons.get(uid, SURPLUS))

    def _materialize_batch(self, partition_id, selected_prompt_uids, partition_snapshot):  # type: ignore[no-untyped-def]
        if partition_id != "val":
            self.observer.settle(selected_prompt_uids, None)
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

    def refill(self, count: int) -> None:
        """Generate what the batch lacks, where verl asks for two groups in exchange for each dropped one.

        Args:
            count: Groups that verl would generate, at least as many as the batch lacks or as fit on the devices.
        """
        if self.trainer_mode == "sync":
            kept = len(self.finished_keys["train"] | self.failure_keys["train"])
            in_flight = len(self.pending_keys["train"] | self.running_keys["train"])
            wanted = math.ceil(self.settings.refill_factor * (self._batch_size - kept))
            count = min(count, wanted - in_flight)
        if count > 0:
            self._verls_refill(count)


def observe_groups(
    buffer: ReplayBuffer,
    observer: GroupObserver,
    groups: dict[str, Group],
    settings: GroupsConfig,
    poll_interval: float | None,
    watchdog: Watchdog | None,
) -> ReplayBuffer:
    """Let ``observer`` see the groups of a replay buffer that verl built.

    verl decides the buffer's arguments by its exact class, so the class is extended after construction.

    Args:
        buffer: Any of verl's replay buffers, or a user's own subclass.
        observer: Told of groups that finish and leave.
        groups: uid -> group, filled by the observer; holds every group that finished and has not left.
        settings: Which kinds of groups are dropped and refilled, and how.
        poll_interval: Seconds between two looks into TransferQueue; None keeps verl's.
        watchdog: Ends a wait for responses that cannot come; None waits for ever, as verl does.

    Returns:
        The same buffer.
    """
    buffer.__class__ = type(f"Observing{type(buffer).__name__}", (ObservingReplayBuffer, type(buffer)), {})
    buffer.observer = observer
    buffer.groups = groups
    buffer.settings = settings
    buffer._batch_size, buffer._dropped, buffer._reasons = 1, 0, {}  # until the first batch is asked for
    buffer._verls_refill, buffer.refill_fn = buffer.refill_fn, buffer.refill
    buffer.watchdog = watchdog
    if poll_interval is not None:
        buffer.poll_interval = poll_interval
    return buffer
