# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Dispatch: every prompt that is sent to the rollout gets its temperature."""

import logging
import os

import torch
from tensordict import NonTensorStack, TensorDict

from erpo.tracker import PromptTracker, keys_array, on_grid
from erpo.trainer import PROMPT_KEY, ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE
from erpo.trainer.config import ConfigError
from erpo.trainer.rows import check_rows, prompt_key_of_row, rows_of
from erpo.trainer.stages.base import TrainerStage

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))


class Dispatch(TrainerStage):
    """Identifies the prompts of the training data and attaches their temperatures."""

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        summary = check_rows(self.train_dataset)
        batch = int(self.config.data.train_batch_size)
        if summary.rows < batch:
            raise ConfigError(
                f"the training data hold {summary.rows} prompts that fit, fewer than data.train_batch_size={batch}; "
                "lower it, raise data.max_prompt_length, or name more data."
            )
        logger.info(f"Training data: {summary.rows} rows, {summary.prompts} distinct prompts")
        self.longest_training = self.total_training_steps
        self.tracker = PromptTracker(self.erpo.schedule, data_fingerprint=summary.fingerprint)

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
