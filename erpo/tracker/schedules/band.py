# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A controller per prompt that keeps the accuracy of its groups inside a band."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.errors import TrackerError
from erpo.tracker.history import Column, PromptHistory
from erpo.tracker.outcome import GroupOutcomes, Outcome
from erpo.tracker.schedules.base import (
    Schedule,
    require_number,
    require_positive,
    require_range,
    require_step,
    same_temperature,
)

# An accuracy this close to an edge of the band is inside.
_ACCURACY_TOLERANCE = 1e-6


@dataclass(frozen=True)
class BandConfig:
    """Settings of the band schedule.

    Attributes:
        low: Lower edge of the band of group accuracies.
        high: Upper edge of the band.
        dt: Temperature step.
        t_base: Temperature of a prompt without history.
        t_max: Cap.
        max_factor: The step doubles with consecutive raises up to this many dt.
        floor: Temperature down to which all-wrong groups may cool their prompt; None means t_base.
    """

    low: float = 0.5
    high: float = 0.9
    dt: float = 0.05
    t_base: float = 1.0
    t_max: float = 1.2
    max_factor: float = 8
    floor: float | None = None

    def __post_init__(self) -> None:
        require_range("band", self.t_base, self.t_max)
        require_step("band.dt", self.dt)
        require_number("band.low", self.low)
        require_number("band.high", self.high)
        if not 0 <= self.low < self.high <= 1:
            raise TrackerError(f"band.low = {self.low} and band.high = {self.high} must satisfy 0 <= low < high <= 1")
        require_number(
            "band.max_factor", self.max_factor, "between 1 (no doubling) and 1024", lambda factor: 1 <= factor <= 1024
        )
        if self.floor is not None:
            require_positive("band.floor", self.floor)
            if self.floor > self.t_base:
                raise TrackerError(
                    f"band.floor = {self.floor} is above band.t_base = {self.t_base}; lower floor or raise t_base"
                )


class BandSchedule(Schedule):
    """T moves with the accuracy a of the prompt's last group.

    a > high: T += dt * min(max_factor, 2 ** (s - 1)), s the number of consecutive raises. a < low: T -= dt, not under
    t_base, or, if the group is all-wrong, not under `floor`. Else T holds. Without a raise s is 0 again. A group
    sampled at another temperature than the prompt's present one changes nothing.
    """

    # The offset from t_base, not T itself: a run resumed with another t_base moves every prompt along.
    columns = (Column("band_offset", "f8"), Column("band_raises", "i4"))

    def __init__(self, config: BandConfig) -> None:
        self.t_base = config.t_base
        self.t_max = config.t_max
        self._config = config
        self.t_min = self._floor = config.t_base if config.floor is None else config.floor

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Schedule`."""
        return np.clip(self.t_base + history.take("band_offset", rows), self._floor, self.t_max)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """See `Schedule`."""
        config = self._config
        present = self.temperatures(history, rows)
        raises = history.take("band_raises", rows)
        above = groups.accuracies > config.high + _ACCURACY_TOLERANCE
        below = groups.accuracies < config.low - _ACCURACY_TOLERANCE

        factor = np.minimum(config.max_factor, 2.0**raises)
        raised = np.minimum(present + config.dt * factor, self.t_max)
        lowest = np.where(groups.outcomes == Outcome.ALL_WRONG, self._floor, self.t_base)
        # A prompt that all-wrong groups took under t_base stays where it is after a mixed one.
        lowered = np.maximum(present - config.dt, np.minimum(present, lowest))

        in_place = same_temperature(groups.temperatures, present)
        moved = np.where(above, raised, np.where(below, lowered, present))
        history["band_offset"][rows] = np.where(in_place, moved, present) - self.t_base
        # The factor stops growing at max_factor <= 2**10, so the count may stop as well.
        counted = np.where(above, np.minimum(raises + 1, 10), 0)
        history["band_raises"][rows] = np.where(in_place, counted, raises)
