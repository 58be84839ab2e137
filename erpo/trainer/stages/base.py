# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the stages of a training step share: the state of the trainer."""

import logging
import os
from pathlib import Path

from omegaconf import DictConfig, OmegaConf
from verl.trainer.ppo.v1 import PPOTrainer

from erpo.runs import GroupLog, MetricsLog
from erpo.runs.console import write_line
from erpo.runs.sample_log import SampleLog
from erpo.tracker import PromptTracker
from erpo.trainer.config import ErpoConfig
from erpo.trainer.folders import log_folder, validates_only
from erpo.trainer.groups import Group
from erpo.trainer.metrics import Totals

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))


class TrainerStage(PPOTrainer):
    """Base of the stages, each of which overrides the hooks of verl's trainer that it needs.

    Attributes:
        erpo: The settings under ``erpo``.
        tracker: History of the prompts.
        groups: Groups that finished and are still in the replay buffer, by uid.
        unreported: Groups that were read and of which the tracker does not know yet.
        settled: Groups that left the replay buffer since the last step, and why they were dropped, None if not.
        failed: Groups that left it since the last step without any response to read.
        batch_groups: Groups of the batch that is being trained on, by uid.
        totals: What was generated so far.
        ra_skipped: All-correct groups of this step that RA left alone.
        stopped_refilling: Why this step dropped no more groups, None if it could go on.
        next_refill_report: Batches' worth of dropped groups after which the console is told again.
        said: What :meth:`say_once` said.
        longest_training: Training steps by verl's settings; a token budget can end the run earlier.
        run_folder: Folder of the run, with its checkpoints.
        log_folder: Folder of its records: the same, or one of its own for a run that only validates.
        validates_only: Whether nothing is trained.
    """

    total_training_steps: int
    longest_training: int
    tracker: PromptTracker
    validates_only = False

    def __init__(self, config: DictConfig) -> None:
        self.erpo = ErpoConfig.from_dict(OmegaConf.to_container(config.erpo, resolve=True))
        self.groups: dict[str, Group] = {}
        self.unreported: list[Group] = []
        self.settled: list[tuple[Group, str | None]] = []
        self.failed = 0
        self.batch_groups: dict[str, Group] = {}
        self.totals = Totals()
        self.ra_skipped = 0
        self.stopped_refilling: str | None = None
        self.next_refill_report = 1
        self.said: set[str] = set()
        self.run_folder = Path(config.trainer.default_local_dir)
        self.log_folder = log_folder(config)
        self.validates_only = validates_only(config)
        self.group_log = GroupLog(self.log_folder)
        self.metrics_log = MetricsLog(self.log_folder)
        self.sample_log = SampleLog(self.log_folder)
        super().__init__(config)

    @property
    def base_temperature(self) -> float:
        """Temperature of a prompt that is not raised."""
        return float(self.config.actor_rollout_ref.rollout.temperature)

    def _end_at_budget(self, least: int) -> None:
        """Let the run end with the step that comes nearest to the token budget, at least `least` steps from here.

        verl asks at the beginning of a step whether it is the last one, so within a step the next can be it.
        """
        # Until a token is generated nothing tells how many a step takes.
        if self.erpo.token_budget is not None and self.totals.tokens:
            tokens_per_step = self.totals.tokens / self.global_steps
            steps_left = round((self.erpo.token_budget - self.totals.tokens) / tokens_per_step)
            last = self.global_steps + max(least, steps_left)
            self.total_training_steps = min(self.longest_training, last)

    def say(self, sentence: str) -> None:
        """Show a sentence on the console between the lines of two steps."""
        write_line(self.log_folder, f"note: {sentence}")
        logger.warning(sentence)

    def say_once(self, sentence: str) -> None:
        """Show a sentence at its first occurrence."""
        if sentence not in self.said:
            self.said.add(sentence)
            self.say(sentence)
