# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Observation: finished groups are read before any filter clears them, and the tracker learns from them."""

from collections.abc import Iterable

import numpy as np
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from erpo.tracker import GroupOutcomes, keys_array
from erpo.trainer.groups import GroupReader
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
            dropped_outcomes=self.erpo.groups.dropped_outcomes,
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
        groups = self._group_reader().read(uids, tags, self.global_steps)
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
            )
        )
        capped_visits = self.tracker.capped_visits_for(keys)
        for i, group in enumerate(groups):
            group.revived = bool(observation.revived[i])
            group.previous = int(observation.previous_outcome[i])
            group.capped_visits = int(capped_visits[i])

    def settle(self, uids: Iterable[str], *, dropped: bool) -> None:
        """Note which groups left the replay buffer, and how; failed groups were never observed."""
        for uid in uids:
            group = self.groups.pop(uid, None)
            if group is not None:
                self.settled.append((group, dropped))
                if not dropped:
                    self.batch_groups[uid] = group

    def _group_reader(self) -> GroupReader:
        rollout = self.config.actor_rollout_ref.rollout
        return GroupReader(
            accuracy=self.erpo.accuracy,
            n=rollout.n,
            base_temperature=float(rollout.temperature),
            max_response_length=int(rollout.response_length),
            eos_token_id=self.tokenizer.eos_token_id,
        )
