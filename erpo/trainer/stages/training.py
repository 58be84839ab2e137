# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Training: agreement of log-probs, RA, and where the gradient comes from."""

from collections.abc import Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.trainer.ppo.core_algos import AdvantageEstimator
from verl.trainer.ppo.ray_trainer import compute_advantage
from verl.trainer.ppo.v1 import trainer_base

from erpo.tracker import Outcome
from erpo.trainer import ROLLOUT_TEMPERATURE
from erpo.trainer.advantage import joined_advantages
from erpo.trainer.after_call import after_call
from erpo.trainer.groups import Group, uid_of
from erpo.trainer.heat import HEAT, HEAT_TOKENS
from erpo.trainer.metrics import (
    broken_metrics,
    describe_groups,
    log_prob_metrics,
    lowest_log_probs,
    signal_metrics,
    tail_metrics,
)
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
                metrics.update(self._heat(batch, rows, groups, tokens))
                # Without a schedule nothing is raised, and the temperature need not lie on the grid.
                if self.erpo.tripwire.enable and self._samples_by_prompt:
                    metrics.update(self._tripwire.observe(tokens, groups))

        batch.extra_info[HEAT_TOKENS] = self.erpo.heat.tokens if self._samples_by_prompt else 0
        with after_call(trainer_base, "calculate_debug_metrics", compare):
            computed = super()._compute_old_log_prob(batch, metrics)
        # No later pass measures.
        for one in (batch, computed):
            one.extra_info.pop(HEAT_TOKENS, None)
        return computed

    @property
    def _samples_by_prompt(self) -> bool:
        """Whether the engine knows a temperature of each prompt, and it is that of sampling."""
        return self.tracker.attaches_temperatures and self.erpo.train_temperature == "sampling"

    def _heat(self, batch: KVBatchMeta, rows: list[int], groups: list[Group], tokens: TensorDict) -> dict[str, float]:
        """What the tail of the vocabulary does: from the engine's measurement, and without it where T is 1.

        Args:
            batch: The batch.
            rows: Its rows of observed groups.
            groups: Group of each of these rows.
            tokens: ``old_log_probs`` and ``response_mask`` of these rows.
        """
        if not self.erpo.heat.tokens:
            return {}
        metrics: dict[str, float] = {}
        base = self.base_temperature if self.erpo.train_temperature == "base" else None
        at_one = [(group.temperature if base is None else base) == 1 for group in groups]
        lowest = np.where(at_one, lowest_log_probs(tokens), np.nan)
        if self._samples_by_prompt:
            # The second one is always there; engines that do not measure bring no column of the first.
            columns = tq.kv_batch_get(
                keys=batch.keys, partition_id=batch.partition_id, select_fields=[HEAT, ROLLOUT_TEMPERATURE]
            )
            if HEAT in columns:
                measured = torch.stack(list(columns[HEAT].unbind()))[rows]
                metrics, lowest = tail_metrics(measured), measured[:, 3].double().numpy()
        names = [batch.keys[row] for row in rows]
        return metrics | broken_metrics(names, groups, lowest, self.erpo.accuracy, self.erpo.heat.rare)

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
