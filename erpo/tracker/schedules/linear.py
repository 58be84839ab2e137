# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The temperature rises by a fixed step with every all-correct visit: our reading of ERPO's rule."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.errors import TrackerError
from erpo.tracker.history import PromptHistory
from erpo.tracker.outcome import GroupOutcomes, Outcome
from erpo.tracker.schedules.base import (
    TEMPERATURE_TOLERANCE,
    Schedule,
    require_range,
    require_step,
    same_temperature,
)


@dataclass(frozen=True)
class LinearConfig:
    """Settings of the linear schedule.

    Attributes:
        t_base: Temperature of a prompt without history.
        dt: Step per level. One epoch of a large data set is two or three visits: a step must act at the second.
        t_max: Cap; only a prompt that was all-correct one step below gets there.
        on_mixed: What a mixed visit does to the level: "hold" keeps it, "reset" sets it to 0.
    """

    t_base: float = 1.0
    dt: float = 0.2
    t_max: float = 1.5
    on_mixed: str = "hold"

    def __post_init__(self) -> None:
        require_range("linear", self.t_base, self.t_max)
        require_step("linear.dt", self.dt)
        if self.on_mixed not in ("hold", "reset"):
            raise TrackerError(f"linear.on_mixed must be 'hold' or 'reset', not {self.on_mixed!r}")


class LinearSchedule(Schedule):
    """T = min(t_base + dt * level, t_max).

    All-correct visit: level + 1, if the group was sampled at the prompt's present temperature, and never above the
    first level that reaches t_max. Mixed visit: as `on_mixed` says. All-wrong visit: level 0.
    """

    def __init__(self, config: LinearConfig) -> None:
        self.t_base = config.t_base
        self.t_max = config.t_max
        self._dt = config.dt
        self._resets_on_mixed = config.on_mixed == "reset"
        self._top_level = max(0, math.ceil((config.t_max - config.t_base - TEMPERATURE_TOLERANCE) / config.dt))

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Schedule`."""
        return np.minimum(self.t_base + self._dt * history.take("level", rows), self.t_max)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """See `Schedule`."""
        level = history.take("level", rows)
        in_place = same_temperature(groups.temperatures, self.temperatures(history, rows))
        level += (groups.outcomes == Outcome.ALL_CORRECT) & in_place
        level[groups.outcomes == Outcome.ALL_WRONG] = 0
        if self._resets_on_mixed:
            level[groups.outcomes == Outcome.MIXED] = 0
        history["level"][rows] = np.minimum(level, self._top_level)
