# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One temperature for every prompt, which rises with the training steps: the other control without history."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.errors import TrackerError
from erpo.tracker.history import PromptHistory
from erpo.tracker.outcome import GroupOutcomes
from erpo.tracker.schedules.base import Schedule, require_positive, require_range


@dataclass(frozen=True)
class RisingConfig:
    """Settings of the rising schedule.

    Attributes:
        t_first: Sampling temperature of every prompt at the first step.
        t_max: Sampling temperature of every prompt from `steps` on; 1.2, like every other cap, for language models.
        steps: Training steps over which the temperature rises: in a run, all of them. None cannot be used.
        t_base: Temperature above which metrics call a prompt raised.
    """

    t_first: float = 1.0
    t_max: float = 1.2
    steps: int | None = 100
    t_base: float = 1.0

    def __post_init__(self) -> None:
        require_positive("rising.t_base", self.t_base)
        require_range("rising", self.t_first, self.t_max, lowest="t_first")
        if self.steps is None:
            raise TrackerError("rising.steps is not set; set the training steps over which the temperature rises")
        require_positive("rising.steps", self.steps)


class RisingSchedule(Schedule):
    """T = t_first + (t_max - t_first) * min(1, s / steps), s the last step of which groups were seen."""

    def __init__(self, config: RisingConfig) -> None:
        self.t_base = config.t_base
        self.t_max = config.t_max
        self.t_min = config.t_first
        assert config.steps is not None  # RisingConfig refuses it
        self._t_first, self._steps = config.t_first, config.steps
        self._last_step = 0

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Schedule`."""
        share = min(1.0, self._last_step / self._steps)
        # In this form the end is t_max to the last bit.
        temperature = (1 - share) * self._t_first + share * self.t_max
        return np.full(rows.shape, temperature, dtype=np.float64)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """See `Schedule`; learns how far the training is."""
        self._last_step = max(self._last_step, int(groups.steps.max(initial=0)))

    def scalars(self) -> dict[str, float]:
        """See `Schedule`."""
        return {"last_step": float(self._last_step)}

    def load_scalars(self, scalars: dict[str, float]) -> None:
        """See `Schedule`."""
        self._last_step = int(scalars["last_step"])
