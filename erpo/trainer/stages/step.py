# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One step: counting, logging and showing what it did."""

from collections.abc import Sequence

from tqdm import tqdm
from transfer_queue import KVBatchMeta

from erpo.runs.console import write_line
from erpo.trainer.config import ConfigError
from erpo.trainer.groups import Group
from erpo.trainer.live import choose_responses, log_live, read_responses
from erpo.trainer.metrics import group_metrics, step_line
from erpo.trainer.stages.base import TrainerStage


class Step(TrainerStage):
    """Counts, logs and shows the groups of every step."""

    def step(self, metrics: dict, timing_raw: dict) -> KVBatchMeta:
        """verl's step; afterwards the groups that left the replay buffer are counted and logged."""
        self.batch_groups.clear()
        self.ra_skipped, self.stopped_refilling, self.next_refill_report = 0, None, 1
        batch = super().step(metrics, timing_raw)
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
        self._stop_if_unscored([group for group, _ in settled])
        return batch

    def _stop_if_unscored(self, groups: Sequence[Group]) -> None:
        """End the run where the reward function scores too little of what is generated."""
        problems = [group.problem for group in groups if group.problem]
        limit = self.erpo.groups.max_unscored
        if groups and len(problems) / len(groups) > limit:
            raise ConfigError(
                f"in step {self.global_steps} {len(problems)} of {len(groups)} groups hold a response without a score, "
                f"more than erpo.groups.max_unscored={limit:g}: {problems[0]}; mend the reward function, or set "
                "erpo.accuracy.metric to a key that it returns."
            )

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
        rows = read_responses(chosen, self.tokenizer, self.erpo.accuracy, limit) if chosen else []
        self.sample_log.write(step, rows)
        log_live(self.logger.logger, self.tracker, rows, step)

    def _validate(self) -> dict[str, float]:
        metrics = super()._validate()
        if self.global_steps == 0 or not hasattr(self, "timing_raw"):
            # verl logs the validation before the first step by itself, outside the hook above.
            self.metrics_log.append(self.global_steps, metrics)
            write_line(self.run_folder, step_line(metrics, self.global_steps, self.total_training_steps))
        return metrics
