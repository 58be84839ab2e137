# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""ERPO on verl's V1 trainer: the stages of :mod:`erpo.trainer.stages` over verl's three modes."""

from verl.trainer.ppo.v1 import PPOTrainerColocateAsync, PPOTrainerSeparateAsync, PPOTrainerSync

from erpo.trainer.stages import Checkpoint, Dispatch, Observation, Startup, Step, Training


class ErpoTrainerMixin(Startup, Dispatch, Observation, Training, Step, Checkpoint):
    """Adds per-prompt history and temperature, RA and the group log to a verl trainer."""


class ErpoTrainerSync(ErpoTrainerMixin, PPOTrainerSync):
    """ERPO on verl's synchronous trainer."""


class ErpoTrainerColocateAsync(ErpoTrainerMixin, PPOTrainerColocateAsync):
    """ERPO on verl's asynchronous trainer with trainer and rollout on the same devices."""


class ErpoTrainerSeparateAsync(ErpoTrainerMixin, PPOTrainerSeparateAsync):
    """ERPO on verl's asynchronous trainer with devices of its own for the rollout."""


TRAINERS = {
    "sync": ErpoTrainerSync,
    "colocate_async": ErpoTrainerColocateAsync,
    "separate_async": ErpoTrainerSeparateAsync,
}
