# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One temperature for every prompt: the control without history."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.history import PromptHistory
from erpo.tracker.outcome import GroupOutcomes
from erpo.tracker.schedules.base import Schedule, require_positive


@dataclass(frozen=True)
class ConstantConfig:
    """Settings of the constant schedule.

    Attributes:
        temperature: Sampling temperature of every prompt; it is the cap as well.
        t_base: Temperature above which metrics call a prompt raised.
    """

    temperature: float = 1.2
    t_base: float = 1.0

    def __post_init__(self) -> None:
        require_positive("constant.temperature", self.temperature)
        require_positive("constant.t_base", self.t_base)


class ConstantSchedule(Schedule):
    """T = temperature."""

    def __init__(self, config: ConstantConfig) -> None:
        self.t_base = config.t_base
        self.t_max = self.t_min = config.temperature

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Schedule`."""
        return np.full(rows.shape, self.t_max, dtype=np.float64)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """See `Schedule`; nothing to learn."""
