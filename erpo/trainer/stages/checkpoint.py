# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the tracker's state goes with verl's, in order, and comes back with it."""

import json
import logging
import os
import shutil
from pathlib import Path

import transfer_queue as tq
from omegaconf import open_dict

from erpo.runs.settings import FINGERPRINT_FILE
from erpo.tracker.storage import STATE_FILE, load_state, save_state
from erpo.trainer.groups import Group, uid_of
from erpo.trainer.identity import STATE_FOLDER, accepts
from erpo.trainer.metrics import Totals
from erpo.trainer.stages.base import TrainerStage

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))


class Checkpoint(TrainerStage):
    """Saves and loads the tracker's state inside verl's checkpoints.

    Attributes:
        saved_step: Step that was saved last by this process.
        step_metrics: What is known of the present step, for the metrics log.
    """

    saved_step = -1
    step_metrics: dict | None = None

    def _save_checkpoint(self) -> None:
        # Before verl's part, which ends by naming this step as the latest: a step so named has its tracker state, and
        # its line in the metrics log, which a kill between here and the end of the step would cost otherwise.
        folder = self.run_folder / f"global_step_{self.global_steps}" / STATE_FOLDER
        self._report()
        self.tracker.finish_batch()
        waiting = [group.to_json() for group in self.groups.values()]
        save_state(self.tracker, folder, extra={"waiting_groups": waiting, "totals": vars(self.totals)})
        if (self.run_folder / FINGERPRINT_FILE).exists():
            shutil.copyfile(self.run_folder / FINGERPRINT_FILE, folder / FINGERPRINT_FILE)
        if self.step_metrics is not None:
            self.metrics_log.append(self.global_steps, self.step_metrics)
        super()._save_checkpoint()
        self.saved_step = self.global_steps

    def _load_checkpoint(self) -> None:
        super()._load_checkpoint()
        # A validation needs the weights only, whatever the history.
        if self.global_steps == 0 or self.validates_only:
            return
        if self.trainer_mode != "sync":
            self._clear_train(of_trained_groups_only=True)
        self._make_up_for_validation()
        folder = self._resumed_folder() / STATE_FOLDER
        if not folder.exists() and not self.erpo.state.require:
            logger.warning(f"{folder} does not exist: every prompt starts without history")
            return
        extra = load_state(
            self.tracker,
            folder,
            accept_changed_data=self.erpo.state.accept_changed_data,
            accept_changed_schedule=accepts(self.erpo.state.accept_changed, "erpo.schedule.name"),
        )
        self.totals = Totals(**extra["totals"])
        self._end_at_budget(least=0)
        if json.loads((folder / STATE_FILE).read_bytes())["data_fingerprint"] != self.tracker.data_fingerprint:
            self._start_data()
            return
        # Groups that were observed but not yet trained on come back with TransferQueue's own checkpoint; remembering
        # them keeps them from being observed twice.
        self.groups.update({group["uid"]: Group.from_json(group) for group in extra["waiting_groups"]})

    def _clear_train(self, *, of_trained_groups_only: bool) -> None:
        """Clear what verl's checkpoint brought back into the partition ``train``.

        verl saves before it clears the batch that was trained on, whose prompts are gone already: nothing would ever
        take these trajectories up again.
        """
        tags = tq.kv_list("train").get("train", {})
        prompts = {key for key, tag in tags.items() if tag.get("is_prompt", False)} if of_trained_groups_only else set()
        keys = [key for key in tags if uid_of(key) not in prompts]
        if keys:
            tq.kv_clear(keys=keys, partition_id="train")

    def _start_data(self) -> None:
        """Read other training data from their beginning: verl's position is one in the old data."""
        # The loader takes this up when it is first asked for a batch.
        self.train_dataloader.next_iter_state = None
        if self.trainer_mode != "sync":
            self._clear_train(of_trained_groups_only=False)
            self._restored_tq_prompt_count = 0
        logger.warning(
            "The training data changed: they are read from the beginning, and the histories of prompts are kept."
        )

    def _make_up_for_validation(self) -> None:
        """Validate before training if a kill cost the validation of the step that the run goes on from."""
        trainer, step = self.config.trainer, self.global_steps
        ends = step >= self.total_training_steps
        due = not trainer.val_only and trainer.test_freq > 0 and (ends or step % trainer.test_freq == 0)
        if due and not any(name.startswith("val-") for name in self.metrics_log.read_step(step)):
            with open_dict(self.config):
                trainer.val_before_train = True

    def _resumed_folder(self) -> Path:
        if self.config.trainer.resume_mode == "resume_path":
            return Path(self.config.trainer.resume_from_path)
        return self.run_folder / f"global_step_{self.global_steps}"
