# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One step: counting, logging and showing what it did."""

from tqdm import tqdm
from transfer_queue import KVBatchMeta

from erpo.runs.console import write_line
from erpo.trainer.live import choose_responses, log_live, read_responses
from erpo.trainer.metrics import group_metrics, step_line
from erpo.trainer.stages.base import TrainerStage


class Step(TrainerStage):
    """Counts, logs and shows the groups of every step."""

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
