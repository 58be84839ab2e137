# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Dispatch: every prompt that is sent to the rollout gets its temperature."""

import logging
import os

import torch
from tensordict import NonTensorStack, TensorDict

from erpo.tracker import PromptTracker, keys_array, on_grid
from erpo.trainer import PROMPT_KEY, ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE
from erpo.trainer.early import READS_NO_GROUPS
from erpo.trainer.rows import check_rows, check_sizes, check_tools, prompt_key_of_row, rows_of
from erpo.trainer.stages.base import TrainerStage

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))

# Below, most groups are their prompt's first.
LEAST_VISITS = 2


class Dispatch(TrainerStage):
    """Identifies the prompts of the training data and attaches their temperatures."""

    def _init_dataloader(self) -> None:
        try:
            super()._init_dataloader()
        except ValueError:
            # Of an empty set torch makes no loader; verl keeps the sets before it makes the loaders.
            if hasattr(self, "val_dataset"):
                check_sizes(self.train_dataset, self.val_dataset, self.config.data)
            raise
        check_sizes(self.train_dataset, self.val_dataset, self.config.data)
        check_tools(self.train_dataset, self.config.actor_rollout_ref.rollout)
        reward = self.config.reward
        own_manager = reward.reward_manager.source != "register"
        one_answer = not (reward.custom_reward_function.path or reward.reward_model.enable or own_manager)
        held_out = check_rows(self.val_dataset, "data.val_files", one_answer=one_answer)
        summary = check_rows(self.train_dataset, one_answer=one_answer)
        logger.info(f"Training data: {summary.rows} rows, {summary.prompts} distinct prompts")
        self._end_with_the_epochs()
        self.longest_training = self.total_training_steps
        if held_out.prompts < held_out.rows:
            self.say(
                f"data.val_files hold {held_out.rows} rows of {held_out.prompts} prompts, and the intervals of "
                "the validation, which take every row for another prompt, are too narrow; keep one row of each, and "
                "raise actor_rollout_ref.rollout.val_kwargs.n"
            )
        self._expect_visits(summary.prompts)
        self.tracker = PromptTracker(self.erpo.schedule, data_fingerprint=summary.fingerprint)

    def _end_with_the_epochs(self) -> None:
        """Make the step at which the epochs end the last one: verl would stop there without saving or validating."""
        asked, epochs = self.total_training_steps, self.config.trainer.total_epochs
        self.total_training_steps = min(asked, self.steps_per_epoch * epochs)
        if self.total_training_steps < asked:
            self.say(
                f"the run ends after {self.total_training_steps} steps and not after trainer.total_training_steps="
                f"{asked}, because trainer.total_epochs={epochs} epochs have no more; raise trainer.total_epochs"
            )

    def _expect_visits(self, prompts: int) -> None:
        """Say it where the run is too short for its schedule, which then does little or stops halfway."""
        schedule = self.erpo.schedule
        visits = self.total_training_steps * self.config.data.train_batch_size / prompts
        if schedule.attaches_temperatures and schedule.section not in READS_NO_GROUPS and visits < LEAST_VISITS:
            self.say(
                f"a prompt is visited {visits:.1f} times in this run, so that most groups are first visits, without a "
                "history; train on fewer prompts (data.train_max_samples) or longer, or take method=grpo_hot"
            )
        steps = schedule.rising.steps
        if schedule.section == "rising" and steps is not None and steps > self.total_training_steps:
            self.say(
                f"the run ends after {self.total_training_steps} steps, and the temperature rises over {steps}; set "
                "erpo.schedule.rising.steps"
            )

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        keys = [prompt_key_of_row(row) for row in rows_of(batch)]
        batch[PROMPT_KEY] = NonTensorStack(*(key.hex() for key in keys))
        if self.tracker.attaches_temperatures:
            temperatures = on_grid(self.tracker.temperatures_for(keys_array(keys)))
            batch[ROLLOUT_TEMPERATURE] = torch.tensor(temperatures, dtype=torch.float32)
            if self.erpo.train_temperature == "base":
                base = float(self.config.actor_rollout_ref.rollout.temperature)
                batch[TRAIN_TEMPERATURE] = torch.full((len(batch),), base, dtype=torch.float32)
        return super()._submit_batch_to_rollout(batch)
