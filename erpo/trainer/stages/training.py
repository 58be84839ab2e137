# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Training: agreement of log-probs, RA, and where the gradient comes from."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.core_algos import AdvantageEstimator
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.v1 import trainer_base

from erpo.tracker import Outcome
from erpo.trainer.advantage import joined_advantages
from erpo.trainer.after_call import after_call
from erpo.trainer.groups import Group, uid_of
from erpo.trainer.metrics import describe_groups, log_prob_metrics, signal_metrics
from erpo.trainer.stages.base import TrainerStage
from erpo.trainer.tripwire import Tripwire


class Training(TrainerStage):
    """Adds RA to verl's advantages and measures log-probs and gradient."""

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        # verl compares both log-probs where it has both; in bypass mode the trainer's are the rollout's own.
        def compare(_: dict, data: DataProto) -> None:
            rows, groups = self._observed(batch.keys)
            if rows:
                names = ("old_log_probs", "rollout_log_probs", "entropy", "response_mask")
                tokens = data.batch.select(*names)
                tokens = tokens if len(rows) == len(tokens) else tokens[rows]
                metrics.update(log_prob_metrics(tokens, groups, self.base_temperature))
                describe_groups(tokens, groups)
                if self.erpo.tripwire.enable and self.erpo.train_temperature == "sampling":
                    metrics.update(self._tripwire.observe(tokens, groups))

        with after_call(trainer_base, "calculate_debug_metrics", compare):
            return super()._compute_old_log_prob(batch, metrics)

    @cached_property
    def _tripwire(self) -> Tripwire:
        return Tripwire(self.erpo.tripwire, self.base_temperature)

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        def adjust(data: DataProto, *_: Any, batch_keys: Sequence[str], **estimator: Any) -> None:
            _mend_masked(data)
            reactivated = self._reactivate(data, batch_keys, **estimator) if self.erpo.ra.enable else set()
            self._silence_unscored(data, batch_keys)
            rows, groups = self._observed(batch_keys)
            if rows:
                by_ra = np.array([row in reactivated for row in rows])
                outcomes = [group.outcome for group in groups]
                metrics.update(signal_metrics(data.batch["advantages"][rows], outcomes, by_ra))

        with after_call(trainer_base, "compute_advantage_for_multi_trajectories", adjust):
            return super()._compute_advantage(batch, metrics)

    def _reactivate(self, data: DataProto, keys: Sequence[str], **estimator: Any) -> set[int]:
        """Give all-correct groups RA's advantages in place of the estimator's; no other row is touched.

        Args:
            data: verl's batch, (rows, tokens): ``token_level_rewards`` (with a KL term where verl adds one to the
                reward), ``response_mask``, ``advantages`` and ``returns``; the last two are changed.
            keys: Trajectory key of each row.
            estimator: ``adv_estimator`` and the settings that verl hands it with the batch.

        Returns:
            The rows that were changed.
        """
        capped_visits = {
            uid: group.capped_visits for uid, group in self.batch_groups.items() if group.outcome == Outcome.ALL_CORRECT
        }
        source = _sources(keys, estimator["adv_estimator"])
        fed = sorted(set(source))
        found = joined_advantages(
            data.batch["token_level_rewards"].sum(dim=-1).double().numpy()[fed],
            data.batch["response_mask"].sum(dim=-1).numpy()[fed],
            [uid_of(keys[row]) for row in fed],
            capped_visits,
            self.erpo.ra,
            partial(compute_advantage, **estimator),
        )
        advantage_of = {fed[place]: advantage for place, advantage in found.items()}
        changed = {row: advantage_of[source[row]] for row in range(len(keys)) if source[row] in advantage_of}
        present = {uid_of(key) for key in keys} & capped_visits.keys()
        skipped = present - {uid_of(keys[row]) for row in changed}
        if skipped:
            self.ra_skipped += len(skipped)
            self.say_once(
                "RA leaves an all-correct group as it is, because a penalty took one of its rewards down to "
                f"erpo.ra.pseudo_reward={self.erpo.ra.pseudo_reward:g}; erpo/ra/skipped counts such groups"
            )
        self._set_advantages(data, changed)
        return set(changed)

    def _silence_unscored(self, data: DataProto, keys: Sequence[str]) -> None:
        """Take the advantages of groups that hold a response without a score: their rewards are not comparable."""
        unscored = {uid for uid, group in self.batch_groups.items() if group.problem}
        self._set_advantages(data, {row: 0.0 for row, key in enumerate(keys) if uid_of(key) in unscored})

    @staticmethod
    def _set_advantages(data: DataProto, advantage_of: dict[int, float]) -> None:
        """Overwrite advantages and returns of rows, one value for all tokens of a row that the mask keeps."""
        rows = list(advantage_of)
        if rows:
            mask = data.batch["response_mask"][rows].to(torch.float32)
            values = mask * torch.tensor([advantage_of[row] for row in rows]).unsqueeze(-1)
            data.batch["advantages"][rows] = values
            data.batch["returns"][rows] = values

    def _observed(self, keys: Sequence[str]) -> tuple[list[int], list[Group]]:
        """Rows of a batch that belong to observed groups: not verl's padding, not those of failed groups."""
        rows = [row for row, key in enumerate(keys) if uid_of(key) in self.batch_groups]
        return rows, [self.batch_groups[uid_of(keys[row])] for row in rows]


def _mend_masked(data: DataProto) -> None:
    """Put zeros for NaNs where the mask drops the token.

    verl's OPO divides by the tokens of a group, of which its padding and groups that its rejection dropped have none.
    The loss ignores those NaNs, but its gradient does not: verl would skip the update.
    """
    for name in ("advantages", "returns"):
        values = data.batch[name]
        values.masked_fill_(values.isnan() & (data.batch["response_mask"] == 0), 0.0)


def _sources(keys: Sequence[str], estimator: str) -> list[int]:
    """For each row the one whose advantage verl gives it.

    Of a session with several outputs verl's V1 trainer hands GRPO the last one, and the others of that session get its
    advantage; to every other estimator each output is a response of its own.
    """
    if estimator != AdvantageEstimator.GRPO:
        return list(range(len(keys)))
    last: dict[str, tuple[int, int]] = {}
    for row, key in enumerate(keys):
        session, index = key.rsplit("_", 1)
        last[session] = max(last.get(session, (-1, -1)), (int(index), row))
    return [last[key.rsplit("_", 1)[0]][1] for key in keys]
