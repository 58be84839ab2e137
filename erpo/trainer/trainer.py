# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""ERPO on verl's V1 trainer: a mixin over the three modes, made of overrides of verl's small hooks."""

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import transfer_queue as tq
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDict
from tqdm import tqdm
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1 import PPOTrainer, PPOTrainerColocateAsync, PPOTrainerSeparateAsync, PPOTrainerSync
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from erpo.runs import GroupLog, MetricsLog
from erpo.runs.console import write_line
from erpo.runs.sample_log import SampleLog
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, keys_array
from erpo.tracker.storage import load_state, save_state
from erpo.trainer import ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE
from erpo.trainer.advantage import ra_advantages
from erpo.trainer.config import ErpoConfig
from erpo.trainer.groups import Group, GroupReader, prompt_key_of_row, uid_of
from erpo.trainer.live import choose_responses, log_live, read_responses
from erpo.trainer.metrics import Totals, describe_groups, group_metrics, log_prob_metrics, signal_metrics, step_line
from erpo.trainer.replay_buffer import observe_groups
from erpo.trainer.rows import check_rows, rows_of

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))

STATE_FOLDER = "erpo"


class ErpoTrainerMixin(PPOTrainer):
    """Adds per-prompt history and temperature, RA and the group log to a verl trainer."""

    total_training_steps: int

    def __init__(self, config: DictConfig) -> None:
        self.erpo = ErpoConfig.from_dict(OmegaConf.to_container(config.erpo, resolve=True))
        self.groups: dict[str, Group] = {}  # finished, still in the replay buffer
        self.unreported: list[Group] = []  # read, not yet told to the tracker
        self.settled: list[tuple[Group, bool]] = []  # left the replay buffer since the last step: (group, dropped)
        self.batch_groups: dict[str, Group] = {}  # of the batch that is being trained on
        self.totals = Totals()
        self.run_folder = Path(config.trainer.default_local_dir)
        self.group_log = GroupLog(self.run_folder)
        self.metrics_log = MetricsLog(self.run_folder)
        self.sample_log = SampleLog(self.run_folder)
        super().__init__(config)

    # ---- dispatch ----------------------------------------------------------------------------------------------------

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        summary = check_rows(self.train_dataset)
        logger.info(f"Training data: {summary.rows} rows, {summary.prompts} distinct prompts")
        self.longest_training = self.total_training_steps
        self.tracker = PromptTracker(self.erpo.schedule, data_fingerprint=summary.fingerprint)

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        if self.tracker.attaches_temperatures:
            keys = keys_array([prompt_key_of_row(row) for row in rows_of(batch)])
            temperatures = self.tracker.temperatures_for(keys)
            batch[ROLLOUT_TEMPERATURE] = torch.tensor(temperatures, dtype=torch.float32)
            if self.erpo.train_temperature == "base":
                base = float(self.config.actor_rollout_ref.rollout.temperature)
                batch[TRAIN_TEMPERATURE] = torch.full((len(batch),), base, dtype=torch.float32)
        return super()._submit_batch_to_rollout(batch)

    # ---- observation -------------------------------------------------------------------------------------------------

    def _build_replay_buffer(self) -> ReplayBuffer:
        return observe_groups(
            super()._build_replay_buffer(),
            observer=self,
            groups=self.groups,
            dropped_outcomes=self.erpo.groups.dropped_outcomes,
            poll_interval=self.erpo.poll_interval,
        )

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

    # ---- training ----------------------------------------------------------------------------------------------------

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        if self.config.actor_rollout_ref.rollout.calculate_log_probs:
            fields = ["old_log_probs", "rollout_log_probs", "response_mask"]
            if not self.config.algorithm.rollout_correction.get("bypass_mode", False):
                fields.append("entropy")
            keys, groups = self._observed(batch)
            if keys:
                data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=fields)
                metrics.update(log_prob_metrics(data, groups, self.base_temperature))
                describe_groups(data, groups)
        return batch

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

    # ---- one step ----------------------------------------------------------------------------------------------------

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        """verl's step; afterwards the groups that left the replay buffer are counted and logged."""
        self.batch_groups.clear()
        batch = super().step(metrics, timing_raw)
        settled, self.settled = self.settled, []
        groups = [group for group, _ in settled]
        self.totals.add(groups)
        self._end_at_budget(least=1)
        metrics.update(group_metrics(groups, self.base_temperature))
        metrics.update(self.totals.metrics())
        metrics.update(self.tracker.metrics())
        self.group_log.write(self.global_steps, [group.log_row(dropped) for group, dropped in settled])
        return batch

    def _end_at_budget(self, least: int) -> None:
        """Let the run end with the step that comes nearest to the token budget, at least `least` steps from here.

        verl asks at the beginning of a step whether it is the last one, so within a step the next can be it.
        """
        if self.erpo.token_budget is not None:
            tokens_per_step = self.totals.tokens / self.global_steps
            steps_left = round((self.erpo.token_budget - self.totals.tokens) / tokens_per_step)
            last = self.global_steps + max(least, steps_left)
            self.total_training_steps = min(self.longest_training, last)

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        self.metrics_log.append(global_steps, metrics)
        every = self.erpo.samples.every
        if every and global_steps % every == 0:
            self._show_samples(global_steps)
        line = step_line(metrics, global_steps, self.total_training_steps)
        write_line(self.run_folder, line)
        tqdm.write(line)

    def _show_samples(self, step: int) -> None:
        chosen = choose_responses(self.batch_groups.values(), self.erpo.samples.groups)
        limit = int(self.config.actor_rollout_ref.rollout.response_length)
        rows = read_responses(chosen, self.tokenizer, self.erpo.accuracy.threshold, limit) if chosen else []
        self.sample_log.write(step, rows)
        log_live(self.logger.logger, self.tracker, rows, step)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        if self.global_steps == 0 or not hasattr(self, "timing_raw"):
            # verl logs the validation before the first step by itself, outside the hook above.
            self.metrics_log.append(self.global_steps, metrics)
            write_line(self.run_folder, step_line(metrics, self.global_steps, self.total_training_steps))
        return metrics

    @property
    def base_temperature(self) -> float:
        """Temperature of a prompt that is not raised."""
        return float(self.config.actor_rollout_ref.rollout.temperature)

    # ---- checkpoint --------------------------------------------------------------------------------------------------

    def _save_checkpoint(self) -> None:
        # Before verl's part, which ends by naming this step as the latest: a step so named has its tracker state.
        folder = self.run_folder / f"global_step_{self.global_steps}" / STATE_FOLDER
        self._report()
        waiting = [group.to_json() for group in self.groups.values()]
        save_state(self.tracker, folder, extra={"waiting_groups": waiting, "totals": vars(self.totals)})
        super()._save_checkpoint()

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        self.group_log.forget_after(self.global_steps)
        self.metrics_log.forget_after(self.global_steps)
        self.sample_log.forget_after(self.global_steps)
        if self.global_steps == 0:
            return
        folder = self._resumed_folder() / STATE_FOLDER
        if not folder.exists() and not self.erpo.state.require:
            logger.warning(f"{folder} does not exist: every prompt starts without history")
            return
        extra = load_state(self.tracker, folder, accept_changed_data=self.erpo.state.accept_changed_data)
        self.totals = Totals(**extra["totals"])
        self._end_at_budget(least=0)
        # Groups that were observed but not yet trained on come back with TransferQueue's own checkpoint; remembering
        # them keeps them from being observed twice.
        self.groups.update({group["uid"]: Group.from_json(group) for group in extra["waiting_groups"]})

    def _resumed_folder(self) -> Path:
        if self.config.trainer.resume_mode == "resume_path":
            return Path(self.config.trainer.resume_from_path)
        return self.run_folder / f"global_step_{self.global_steps}"


class ErpoTrainerSync(ErpoTrainerMixin, PPOTrainerSync):
    """ERPO on verl's synchronous trainer."""


class ErpoTrainerColocateAsync(ErpoTrainerMixin, PPOTrainerColocateAsync):
    """ERPO on verl's asynchronous trainer with trainer and rollout on the same devices."""


class ErpoTrainerSeparateAsync(ErpoTrainerMixin, PPOTrainerSeparateAsync):
    """ERPO on verl's asynchronous trainer with devices of its own for the rollout."""


TRAINERS = {
    "sync": ErpoTrainerSync,
    "colocate_async": ErpoTrainerColocateAsync,
    "separate_async": ErpoTrainerSeparateAsync,
}
