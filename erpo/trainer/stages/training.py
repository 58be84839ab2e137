# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Training: agreement of log-probs, RA, and where the gradient comes from."""

from functools import cached_property

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig
from tensordict import TensorDict
from transfer_queue import KVBatchMeta

from erpo.tracker import Outcome
from erpo.trainer.advantage import ra_advantages
from erpo.trainer.groups import Group, uid_of
from erpo.trainer.metrics import describe_groups, log_prob_metrics, signal_metrics
from erpo.trainer.stages.base import TrainerStage
from erpo.trainer.tripwire import Tripwire


def has_both_log_probs(config: DictConfig) -> bool:
    """Whether trainer and rollout each compute log-probs; in bypass mode the trainer's are the rollout's own."""
    bypassed = bool(config.algorithm.rollout_correction.get("bypass_mode", False))
    return bool(config.actor_rollout_ref.rollout.calculate_log_probs) and not bypassed


class Training(TrainerStage):
    """Adds RA to verl's advantages and measures log-probs and gradient."""

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        if has_both_log_probs(self.config):
            keys, groups = self._observed(batch)
            if keys:
                fields = ["old_log_probs", "rollout_log_probs", "entropy", "response_mask"]
                data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
                metrics.update(log_prob_metrics(data, groups, self.base_temperature))
                describe_groups(data, groups)
                if self.erpo.tripwire.enable and self.erpo.train_temperature == "sampling":
                    metrics.update(self._tripwire.observe(data, groups))
        return batch

    @cached_property
    def _tripwire(self) -> Tripwire:
        return Tripwire(self.erpo.tripwire, self.base_temperature)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        if self.erpo.ra.enable:
            self._reactivate(batch)
        keys, groups = self._observed(batch)
        if keys:
            data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["advantages"])
            metrics.update(signal_metrics(data["advantages"], [group.outcome for group in groups]))
        return batch

    def _reactivate(self, batch: KVBatchMeta) -> None:
        """Overwrite the advantages of all-correct groups with RA's."""
        advantage_of: dict[str, float] = {}
        by_std = bool(self.config.algorithm.get("norm_adv_by_std_in_grpo", True))
        for group in self.batch_groups.values():
            if group.outcome == Outcome.ALL_CORRECT:
                values = ra_advantages(
                    np.array(group.rewards), self.erpo.ra, by_std=by_std, capped_visits=group.capped_visits
                )
                sessions = (key.rsplit("_", 1)[0] for key in group.trajectory_keys)
                advantage_of.update(zip(sessions, values.tolist(), strict=True))
        keys = [key for key in batch.keys if key.rsplit("_", 1)[0] in advantage_of]
        if not keys:
            return
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["response_mask"])
        rows = [
            mask.to(torch.float32) * advantage_of[key.rsplit("_", 1)[0]]
            for key, mask in zip(keys, data["response_mask"].unbind(), strict=True)
        ]
        advantages = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
        fields = TensorDict({"advantages": advantages, "returns": advantages.clone()}, batch_size=len(keys))
        tq.kv_batch_put(keys=keys, partition_id=batch.partition_id, fields=fields)

    def _observed(self, batch: KVBatchMeta) -> tuple[list[str], list[Group]]:
        """The batch's trajectories of observed groups: not verl's padding, not those of failed groups."""
        keys = [key for key in batch.keys if uid_of(key) in self.batch_groups]
        return keys, [self.batch_groups[uid_of(key)] for key in keys]
