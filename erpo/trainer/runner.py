# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The Ray actor that runs a training: verl's own, with ERPO's trainers in place of verl's."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from verl.trainer import main_ppo

_TaskRunnerV1: Any = main_ppo.TaskRunnerV1.__ray_metadata__.modified_class


class ErpoTaskRunner(_TaskRunnerV1):
    """Runs verl's V1 trainer of the configured mode, extended by ERPO."""

    def run(self, config: DictConfig) -> None:
        """Run the training; the resolved settings go to ``config.yaml`` in the run's folder."""
        from verl.trainer.ppo.v1 import trainer_base

        from erpo.trainer.trainer import TRAINERS

        # verl compares the mode's name in many places, so a trainer registered under a name of its own would behave
        # as none of the modes; the entry of the mode itself is replaced, in this process only.
        trainer_base.TRAINER_REGISTRY.update(TRAINERS)

        folder = Path(config.trainer.default_local_dir)
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(config, folder / "config.yaml", resolve=True)
        # verl prints all of its settings, some 600 lines; the file above holds them.
        main_ppo.pprint = lambda *args, **kwargs: None
        super().run(config)
