# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: the tracker's state goes with verl's, in order, and comes back with it."""

import logging
import os
from pathlib import Path

from erpo.tracker.storage import load_state, save_state
from erpo.trainer.groups import Group
from erpo.trainer.metrics import Totals
from erpo.trainer.stages.base import TrainerStage

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))

STATE_FOLDER = "erpo"


class Checkpoint(TrainerStage):
    """Saves and loads the tracker's state inside verl's checkpoints."""

    def _save_checkpoint(self) -> None:
        # Before verl's part, which ends by naming this step as the latest: a step so named has its tracker state.
        folder = self.run_folder / f"global_step_{self.global_steps}" / STATE_FOLDER
        self._report()
        self.tracker.finish_batch()
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
