# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Dispatch: every prompt that is sent to the rollout gets its temperature."""

import logging
import os

import torch
from tensordict import TensorDict

from erpo.tracker import PromptTracker, keys_array, on_grid
from erpo.trainer import ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE
from erpo.trainer.groups import prompt_key_of_row
from erpo.trainer.rows import check_rows, rows_of
from erpo.trainer.stages.base import TrainerStage

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))


class Dispatch(TrainerStage):
    """Identifies the prompts of the training data and attaches their temperatures."""

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        summary = check_rows(self.train_dataset)
        logger.info(f"Training data: {summary.rows} rows, {summary.prompts} distinct prompts")
        self.longest_training = self.total_training_steps
        self.tracker = PromptTracker(self.erpo.schedule, data_fingerprint=summary.fingerprint)

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        if self.tracker.attaches_temperatures:
            keys = keys_array([prompt_key_of_row(row) for row in rows_of(batch)])
            temperatures = on_grid(self.tracker.temperatures_for(keys))
            batch[ROLLOUT_TEMPERATURE] = torch.tensor(temperatures, dtype=torch.float32)
            if self.erpo.train_temperature == "base":
                base = float(self.config.actor_rollout_ref.rollout.temperature)
                batch[TRAIN_TEMPERATURE] = torch.full((len(batch),), base, dtype=torch.float32)
        return super()._submit_batch_to_rollout(batch)
