# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Dispatch: every prompt that is sent to the rollout gets its temperature."""

import logging
import os

import torch
from tensordict import TensorDict

from erpo.tracker import PromptTracker, keys_array
from erpo.trainer import ROLLOUT_TEMPERATURE, TRAIN_TEMPERATURE
from erpo.trainer.groups import prompt_key_of_row
from erpo.trainer.rows import check_cells, check_rows, check_sizes, rows_of
from erpo.trainer.stages.base import TrainerStage

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))


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
        check_cells(self.train_dataset, "data.train_files")
        check_cells(self.val_dataset, "data.val_files")
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
