# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The folders that the settings name: where a run lies, where it records, and what it goes on from."""

import re
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from erpo.runs.settings import read_settings, setting
from erpo.trainer.config import ConfigError

_FOLDERS = ("default_local_dir", "resume_from_path", "rollout_data_dir", "validation_data_dir")
_LOG_FOLDER = "trainer.log_folder"
# Set where the run's folder carries the time of its start: the same command makes another one.
NEW_FOLDER = "trainer.new_folder_each_start"
_MARKER = "latest_checkpointed_iteration.txt"


def prepare_folders(config: DictConfig) -> Path:
    """Make the folders of the settings mean one place: ``~`` is home, relative ones start in the present folder.

    Args:
        config: The composed settings; changed in place.

    Returns:
        Folder of the run.

    Raises:
        ConfigError: The run has no folder, or one is remote.
    """
    if not OmegaConf.select(config, "trainer.default_local_dir"):
        raise ConfigError("trainer.default_local_dir is not set; name a folder for the run.")
    raw: Any = OmegaConf.to_container(config.trainer, resolve=False)
    if "${now:" in str(raw["default_local_dir"]):
        OmegaConf.update(config, NEW_FOLDER, True, force_add=True)
    for name in _FOLDERS:
        value = OmegaConf.select(config, f"trainer.{name}", default=None)
        if not isinstance(value, str) or not value:
            continue
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/", value):
            raise ConfigError(
                f"trainer.{name} is {value}, but runs are written to local or mounted folders; name one, and set "
                "trainer.default_hdfs_dir for verl's remote copies of the weights."
            )
        # Ray's workers on other nodes have another working folder than this process.
        config.trainer[name] = str(Path(value).expanduser().absolute())
    _go_on_with_its_own(config)
    if validates_only(config):
        # Its records are no part of the training's.
        logs = Path(config.trainer.default_local_dir) / "val_only" / time.strftime("%Y%m%d-%H%M%S")
        OmegaConf.update(config, _LOG_FOLDER, str(logs), force_add=True)
    return Path(config.trainer.default_local_dir)


def same_command_continues(config: DictConfig) -> bool:
    """Whether the run goes on where it stopped if its command is given again."""
    trainer = config.trainer
    if trainer.resume_mode == "resume_path":
        # Otherwise it would go back to one of its own checkpoints once more.
        return Path(trainer.default_local_dir) not in Path(trainer.resume_from_path).parents
    return bool(trainer.resume_mode == "auto")


def _go_on_with_its_own(config: DictConfig) -> None:
    """Let a command that continued another run's checkpoint continue its own when it is given again.

    A job that was preempted is started by the same command, and must not go back to where it began.
    """
    trainer = config.trainer
    folder = Path(trainer.default_local_dir)
    named = trainer.resume_mode == "resume_path" and isinstance(trainer.resume_from_path, str)
    # A validation is of the checkpoint that is named.
    if not named or validates_only(config) or not same_command_continues(config):
        return
    went_on_from = setting(read_settings(folder), "trainer.resume_from_path")
    if (folder / _MARKER).is_file() and went_on_from == trainer.resume_from_path:
        trainer.resume_mode = "auto"
        print(f"the run went on from {trainer.resume_from_path}; it continues from its own newest checkpoint")


def validates_only(config: DictConfig) -> bool:
    """Whether the run ends after verl's validation before the first step."""
    return bool(config.trainer.get("val_only", False)) and bool(config.trainer.get("val_before_train", True))


def log_folder(config: DictConfig) -> Path:
    """Folder of the run's records."""
    return Path(OmegaConf.select(config, _LOG_FOLDER, default=None) or config.trainer.default_local_dir)


def checkpoint_to_resume(config: DictConfig) -> Path | None:
    """The folder ``global_step_N`` that verl would go on from; None: it starts from scratch."""
    trainer = config.trainer
    if trainer.resume_mode == "resume_path":
        return Path(trainer.resume_from_path)
    marker = Path(trainer.default_local_dir) / _MARKER
    if trainer.resume_mode != "auto" or not marker.is_file():
        return None
    step = marker.read_text().strip()
    if not step.isdigit():
        raise ConfigError(
            f"{marker} holds {step!r}, which is not a step number; write the number of the newest global_step_N into "
            "it, or remove the file to start from scratch."
        )
    folder = marker.parent / f"global_step_{step}"
    if not folder.is_dir():
        raise ConfigError(
            f"{marker} names {folder.name}, which is not there; write the number of the newest global_step_N into it, "
            "or remove the file to start from scratch."
        )
    return folder
