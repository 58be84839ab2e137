# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a run is made of: settings that all arms share, and groups of responses."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from erpo.tracker import Outcome
from erpo.trainer.advantage import ra_advantages
from erpo.trainer.config import RAConfig

_EPSILON = 1e-6


@dataclass(frozen=True)
class LoopConfig:
    """What all arms share.

    Attributes:
        budget: Response tokens that are generated, dropped groups included.
        prompts: Prompts in a training step.
        n: Responses to a prompt, on average.
        ramp: Updates over which the learning rate rises.
        evaluations: Evaluations, evenly over the budget, beside the one before training.
        unlearnable: Break responses by chance, with the probability that the tail of an untrained model has at their
            temperature: heat that no training makes harmless.
    """

    budget: int = 125_000
    prompts: int = 16
    n: int = 8
    ramp: int = 5
    evaluations: int = 4
    unlearnable: bool = False


@dataclass(frozen=True, eq=False)
class Group:
    """The responses to one prompt at one visit; G of them.

    Attributes:
        prompt: Row of the prompt in the training pool.
        temperature: Sampling temperature.
        responses: Tokens, (G, RESPONSE_LENGTH).
        lengths: (G,).
        accuracies: 0 or 1, (G,).
        broken: Whether the tail made a response wrong, (G,).
        outcome: Kind of the group.
    """

    prompt: int
    temperature: float
    responses: torch.Tensor
    lengths: torch.Tensor
    accuracies: NDArray[np.float64]
    broken: NDArray[np.bool_]
    outcome: Outcome

    def advantages(self, ra: bool) -> NDArray[np.float64] | None:
        """GRPO's advantages, or RA's of an all-correct group, (G,); None where they are zero."""
        if self.outcome is Outcome.MIXED:
            return (self.accuracies - self.accuracies.mean()) / (self.accuracies.std(ddof=1) + _EPSILON)
        if self.outcome is Outcome.ALL_CORRECT and ra:
            return ra_advantages(self.accuracies, RAConfig(enable=True), by_std=True)
        return None
