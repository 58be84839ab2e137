# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Observation: finished groups are read before any filter clears them, and the tracker learns from them."""

from collections.abc import Iterable

import numpy as np
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from erpo.tracker import GroupOutcomes, keys_array
from erpo.trainer.groups import read_groups
from erpo.trainer.replay_buffer import observe_groups
from erpo.trainer.stages.base import TrainerStage
from erpo.trainer.watchdog import Watchdog


class Observation(TrainerStage):
    """Reads finished groups and tells the tracker of them."""

    def _build_replay_buffer(self) -> ReplayBuffer:
        seconds = self.erpo.watchdog.seconds
        return observe_groups(
            super()._build_replay_buffer(),
            observer=self,
            groups=self.groups,
            settings=self.erpo.groups,
            poll_interval=self.erpo.poll_interval,
            watchdog=Watchdog(seconds, self._response_workers) if seconds else None,
        )

    def _response_workers(self) -> dict[str, str]:
        """The processes that a response needs: Ray's actor id -> what it is."""
        replicas = [replica for manager in self._rollout_server_managers() for replica in manager.get_replicas()]
        handles = {
            "agent-loop worker": self.agent_loop_manager.agent_loop_workers,
            "reward worker": self.reward_loop_manager.reward_loop_workers,
            "rollout server": [server for replica in replicas for server in replica.servers],
            "trainer worker": self.actor_rollout_wg.workers,
        }
        return {actor._actor_id.hex(): name for name, actors in handles.items() for actor in actors}

    def observe(self, uids: Iterable[str], tags: dict[str, dict]) -> None:
        """Read groups that finished; the tracker is told of all of them together (:meth:`on_sample_end`)."""
        n = int(self.config.actor_rollout_ref.rollout.n)
        groups = read_groups(uids, tags, self.erpo.accuracy, n, self.global_steps)
        for group in groups:
            if group.problem:
                self.say_once(f"a response has no score, so its group has no kind: {group.problem}")
        self.groups.update({group.uid: group for group in groups})
        self.unreported.extend(groups)

    def on_sample_end(self) -> None:
        """Tell the tracker of the groups that were read while a batch was sampled, as one batch of visits."""
        super().on_sample_end()
        self._report()

    def _report(self) -> None:
        groups, self.unreported = self.unreported, []
        if not groups:
            return
        keys = keys_array([group.key for group in groups])
        observation = self.tracker.observe(
            GroupOutcomes(
                keys=keys,
                outcomes=np.array([group.outcome for group in groups], dtype=np.int8),
                accuracies=np.array([group.correct / max(len(group.accuracies), 1) for group in groups]),
                sizes=np.array([len(group.accuracies) for group in groups], dtype=np.int32),
                temperatures=np.array([group.temperature for group in groups]),
                steps=np.array([group.step for group in groups], dtype=np.int64),
            ),
            more_to_come=True,
        )
        capped_visits = self.tracker.capped_visits_for(keys)
        for i, group in enumerate(groups):
            group.revived = bool(observation.revived[i])
            group.previous = int(observation.previous_outcome[i])
            group.capped_visits = int(capped_visits[i])

    def settle(self, uids: Iterable[str], drop_reason: str | None) -> None:
        """Note which groups left the replay buffer, and why; failed groups were never observed."""
        for uid in uids:
            group = self.groups.pop(uid, None)
            if group is None:
                self.failed += 1
                continue
            self.settled.append((group, drop_reason))
            if drop_reason is None:
                self.batch_groups[uid] = group

    def reason_to_drop_no_more(self, dropped: int, batch_size: int) -> str | None:
        """Why the batch that is being sampled must keep what comes, in a few words; None: it may drop on.

        Without a limit a batch of prompts that the model cannot solve would be sampled for ever.
        """
        limit = self.erpo.groups.refill_limit
        budget = self.erpo.token_budget
        generated = self.totals.tokens + sum(sum(group.lengths) for group, _ in self.settled)
        reason = None
        if dropped >= limit * batch_size:
            reason = f"erpo.groups.refill_limit={limit:g} batches"
        elif budget is not None and generated >= budget:
            reason = f"erpo.token_budget={budget:,}"
        if reason and reason != self.stopped_refilling:
            self.stopped_refilling = reason
            self.say(f"step {self.global_steps} keeps all further groups after dropping {dropped} ({reason})")
        elif reason is None and dropped >= self.next_refill_report * batch_size:
            self.next_refill_report = dropped // batch_size + 1
            self.say(f"step {self.global_steps} is refilling: {dropped} groups dropped for a batch of {batch_size}")
        return reason
