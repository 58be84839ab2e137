# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The stages of a training step, one module each, in the order of a prompt's way; each overrides hooks of verl."""

from erpo.trainer.stages.checkpoint import Checkpoint
from erpo.trainer.stages.dispatch import Dispatch
from erpo.trainer.stages.observation import Observation
from erpo.trainer.stages.startup import Startup
from erpo.trainer.stages.step import Step
from erpo.trainer.stages.training import Training

__all__ = ["Checkpoint", "Dispatch", "Observation", "Startup", "Step", "Training"]
