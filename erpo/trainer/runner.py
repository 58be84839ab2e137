# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The Ray actor that runs a training: verl's own, with ERPO's trainers in place of verl's."""

from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig, OmegaConf
from verl.trainer import main_ppo

from erpo.environment.resources import cluster_problem
from erpo.runs import settings
from erpo.runs.lock import locked
from erpo.runs.superseded import new_superseded
from erpo.trainer.config import ConfigError
from erpo.trainer.folders import checkpoint_to_resume, log_folder, validates_only
from erpo.trainer.identity import check_identity, fingerprint, to_file

_TaskRunnerV1: Any = main_ppo.TaskRunnerV1.__ray_metadata__.modified_class

# Seconds in which the trainer of a start whose driver was killed is gone.
_PATIENCE = 60.0


class ErpoTaskRunner(_TaskRunnerV1):
    """Runs verl's V1 trainer of the configured mode, extended by ERPO."""

    def run(self, config: DictConfig) -> None:
        """Run the training; the resolved settings go to ``config.yaml`` in the run's folder."""
        from verl.trainer.ppo.v1 import trainer_base

        from erpo.trainer.trainer import TRAINERS

        # verl compares the mode's name in many places, so a trainer registered under a name of its own would behave
        # as none of the modes; the entry of the mode itself is replaced, in this process only.
        trainer_base.TRAINER_REGISTRY.update(TRAINERS)
        # verl prints all of its settings, some 600 lines; the run's folder holds them.
        main_ppo.pprint = lambda *args, **kwargs: None

        # A cluster that the run joined; on one of its own the driver has looked.
        problem = cluster_problem(config, ray.cluster_resources())
        if problem is not None:
            raise ConfigError(problem)
        folder = log_folder(config)
        # Beside the driver's lock: its process can be gone while this one still writes.
        with locked(folder, "trainer.lock", patience=_PATIENCE):
            if not validates_only(config):
                # Again, because the driver may be on a machine that does not see the folder.
                check_identity(config, Path(config.trainer.default_local_dir), checkpoint_to_resume(config))
            settings.stage(folder, config, to_file(fingerprint(config)))
            if validates_only(config):
                settings.commit(folder, new_superseded(folder))
            # Ray has them by now, and what verl hands to its loggers should not.
            environment = OmegaConf.select(config, "ray_kwargs.ray_init.runtime_env.env_vars", default=None)
            if environment:
                config.ray_kwargs.ray_init.runtime_env.env_vars = settings.without_secrets(dict(environment))
            super().run(config)
