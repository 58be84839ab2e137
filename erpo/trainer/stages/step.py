# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One step: counting, logging and showing what it did."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm
from transfer_queue import KVBatchMeta

from erpo.runs import stop
from erpo.runs.console import write_line
from erpo.runs.settings import commit
from erpo.runs.superseded import FROM_SCRATCH, holds_records, new_superseded, supersede, supersede_dumps
from erpo.trainer.config import ConfigError
from erpo.trainer.groups import Group
from erpo.trainer.live import choose_responses, log_live, read_responses
from erpo.trainer.metrics import group_metrics, step_line
from erpo.trainer.stages.base import TrainerStage
from erpo.trainer.validation import validation_metrics


class Step(TrainerStage):
    """Counts, logs and shows the groups of every step, and ends the run where it was asked to.

    Attributes:
        log_folder: Folder of the run's records.
        recording: Whether a step was recorded since the start.
        held_validation: Validation before the first step of a folder with records of an earlier pass.
        first_pass: Whether this run recorded the validation before the first step, of a folder without records.
        stopping: Whether the run ends with the present step because it was asked to.
    """

    log_folder: Path
    saved_step: int
    step_metrics: dict | None
    recording = False
    held_validation: dict[str, float] | None = None
    first_pass = False
    stopping = False

    def on_train_begin(self) -> None:
        """A run that was asked to stop while it started does not begin."""
        if stop.requested(self.log_folder):
            self.stopping = True
            self.total_training_steps = self.global_steps - 1
            return
        super().on_train_begin()

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        """verl's step; afterwards the groups that left the replay buffer are counted and logged."""
        self.batch_groups.clear()
        self.ra_skipped, self.stopped_refilling, self.next_refill_report = 0, None, 1
        batch = super().step(metrics, timing_raw)
        self._begin_to_record()
        # Here and not where groups are sampled, which separate_async does several times in a step.
        self.tracker.finish_batch()
        settled, self.settled = self.settled, []
        failed, self.failed = self.failed, 0
        self.totals.add(group for group, _ in settled)
        self._end_at_budget(least=1)
        metrics.update(group_metrics(settled, self.base_temperature))
        metrics["erpo/groups/failed"] = float(failed)
        metrics["erpo/groups/refill_stopped"] = float(self.stopped_refilling is not None)
        if self.erpo.ra.enable:
            metrics["erpo/ra/skipped"] = float(self.ra_skipped)
        metrics.update(self.totals.metrics())
        metrics.update(self.tracker.metrics())
        self.group_log.write(self.global_steps, [group.log_row(reason) for group, reason in settled])
        self._sample()
        self._stop_if_unscored([group for group, _ in settled])
        self.step_metrics = metrics
        # In the last step there is nothing to break off.
        if self.global_steps < self.total_training_steps and stop.requested(self.log_folder):
            self.stopping = True
            self.total_training_steps = self.global_steps
        return batch

    def on_step_end(self) -> None:
        """Before the weights go to the rollout again, as verl saves: a run that is to stop is saved."""
        if self.stopping and self.saved_step != self.global_steps:
            self._save_checkpoint()
        super().on_step_end()

    def on_train_end(self) -> None:
        """Say that the run stopped because it was asked to."""
        super().on_train_end()
        if self.stopping:
            stop.answer(self.log_folder, self.global_steps - 1)

    def _begin_to_record(self) -> None:
        """Move the records of an earlier pass out of the way: from here on, this one has a step to show for it."""
        if self.recording:
            return
        self.recording = True
        resumed = self.global_steps - 1
        superseded = new_superseded(self.run_folder)
        moved = supersede(self.run_folder, resumed if resumed or self.first_pass else FROM_SCRATCH, superseded)
        commit(self.run_folder, superseded)
        for name in ("rollout_data_dir", "validation_data_dir"):
            if self.config.trainer.get(name):
                supersede_dumps(self.config.trainer[name], resumed)
        if moved is not None:
            write_line(self.log_folder, f"records and checkpoints of later steps than {resumed} were moved to {moved}")
        if self.held_validation is not None:
            self.metrics_log.append(resumed, self.held_validation)

    def _stop_if_unscored(self, groups: Sequence[Group]) -> None:
        """End the run where the reward function scores too little of what is generated."""
        problems = [group.problem for group in groups if group.problem]
        limit = self.erpo.groups.max_unscored
        if groups and len(problems) / len(groups) > limit:
            raise ConfigError(
                f"in step {self.global_steps} {len(problems)} of {len(groups)} groups hold a response without a score, "
                f"more than erpo.groups.max_unscored={limit:g}: {problems[0]}; fix the reward function, or set "
                "erpo.accuracy.metric to a key that it returns."
            )

    def _val_metrics_update(
        self,
        data_sources: Sequence[str],
        sample_uids: Sequence[str],
        reward_extra_infos_dict: dict[str, list],
        sample_turns: Sequence[int],
        expected_acc_counts: dict[tuple[str, str], int] | None = None,
    ) -> dict[str, float]:
        expected = expected_acc_counts or Counter(zip(map(str, data_sources), map(str, sample_uids), strict=True))
        own = validation_metrics(data_sources, sample_uids, reward_extra_infos_dict, expected, self.erpo.accuracy)
        verls = super()._val_metrics_update(
            data_sources, sample_uids, reward_extra_infos_dict, sample_turns, expected_acc_counts
        )
        return {**verls, **own}

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict, timing_raw: dict, global_steps: int, epoch: int
    ) -> None:
        super()._compute_metrics(batch, metrics, timing_raw, global_steps, epoch)
        self.metrics_log.append(global_steps, metrics)
        if self._samples_of(global_steps):
            log_live(self.logger.logger, self.tracker, self.samples, global_steps)
        line = step_line(metrics, global_steps, self.total_training_steps)
        write_line(self.log_folder, line)
        tqdm.write(line)

    def _samples_of(self, step: int) -> bool:
        every = self.erpo.samples.every
        return bool(every) and step % every == 0

    def _sample(self) -> None:
        """Keep responses to read, before the checkpoint that would leave a killed run without them."""
        if not self._samples_of(self.global_steps):
            return
        chosen = choose_responses(self.batch_groups.values(), self.erpo.samples.groups)
        limit = int(self.config.actor_rollout_ref.rollout.response_length)
        self.samples = read_responses(chosen, self.tokenizer, self.erpo.accuracy, limit) if chosen else []
        self.sample_log.write(self.global_steps, self.samples)

    def _validate(self) -> dict[str, float]:
        if self.stopping:
            # The time until the end may be short; the next start makes up for it.
            return {}
        metrics = super()._validate()
        if self.global_steps == 0 and holds_records(self.log_folder):
            self.held_validation = metrics
        else:
            self.first_pass = self.global_steps == 0
            self.metrics_log.append(self.global_steps, metrics)
        if self.global_steps == 0 or not hasattr(self, "timing_raw"):
            # verl logs the validation before the first step by itself, outside the hook above.
            write_line(self.log_folder, step_line(metrics, self.global_steps, self.total_training_steps))
        return metrics
