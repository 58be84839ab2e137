# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""An ability estimate per prompt picks the temperature at which a target accuracy is expected."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.history import Column, PromptHistory
from erpo.tracker.outcome import GroupOutcomes
from erpo.tracker.schedules.base import Schedule, require_number, require_positive, require_range


@dataclass(frozen=True)
class PredictiveConfig:
    """Settings of the predictive schedule; the defaults of the model were guessed, not fitted.

    Attributes:
        target: Accuracy p* that the temperature aims at.
        slope: b, loss of log-odds of a correct response per unit of temperature.
        initial_variance: v of a prompt without history, and the highest v.
        drift: Growth of v per step since the last visit.
        global_rate: Share of the batch's common surprise that moves the global offset g; 0 turns g off.
        t_base: Lowest temperature, the one at which ability plus offset are the log-odds.
        t_max: Cap.
    """

    target: float = 0.5
    slope: float = 2.5
    initial_variance: float = 2.5
    drift: float = 0.03
    global_rate: float = 0.3
    t_base: float = 1.0
    t_max: float = 1.2

    def __post_init__(self) -> None:
        require_range("predictive", self.t_base, self.t_max)
        require_number("predictive.target", self.target, "between 0 and 1", lambda target: 0 < target < 1)
        require_positive("predictive.slope", self.slope)
        require_positive("predictive.initial_variance", self.initial_variance)
        for name, value in (("drift", self.drift), ("global_rate", self.global_rate)):
            require_number(f"predictive.{name}", value, "0 or more", lambda number: number >= 0)


class PredictiveSchedule(Schedule):
    """T = clip(t_base + (m + g - logit p*) / b, t_base, t_max).

    The model is P(correct) = sigmoid(m + g - b (T - t_base)), m the ability of the prompt with variance v. After a
    visit with k of n responses correct, p predicted at the temperature of sampling, w = n p (1 - p):

        v' = min(initial_variance, v + drift * steps since the last visit)
        m += v' (k - n p) / (1 + v' w),   v = v' / (1 + v' w)

    and after a batch g += global_rate * sum(k - n p) / sum(w + 0.5), all p being predicted with the g before it. So a
    batch should be a whole training step. A group sampled at an earlier temperature informs as well as any other, and
    so does the second of two in-flight groups of a prompt: both are counted.
    """

    def __init__(self, config: PredictiveConfig) -> None:
        self.t_base = config.t_base
        self.t_max = config.t_max
        self.columns = (
            Column("ability_mean", "f8"),
            Column("ability_variance", "f8", config.initial_variance),
        )
        self._config = config
        self._target_logit = math.log(config.target / (1 - config.target))
        self._global_offset = 0.0
        self._surprise = 0.0
        self._weight = 0.0

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Schedule`."""
        slope = self._config.slope
        t_without_ability = self.t_base + (self._global_offset - self._target_logit) / slope
        return np.clip(t_without_ability + history.take("ability_mean", rows) / slope, self.t_base, self.t_max)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """See `Schedule`."""
        config = self._config
        mean = history.take("ability_mean", rows)
        last_step = history.take("last_step", rows)
        elapsed = np.where(last_step >= 0, np.maximum(groups.steps - last_step, 0), 0)
        variance = history.take("ability_variance", rows) + config.drift * elapsed
        variance = np.minimum(variance, config.initial_variance)

        logit = mean + self._global_offset - config.slope * (groups.temperatures - self.t_base)
        predicted = np.exp(-np.logaddexp(0, -logit))
        surprise = groups.sizes * (groups.accuracies - predicted)
        weight = groups.sizes * predicted * (1 - predicted)
        history["ability_mean"][rows] = mean + variance * surprise / (1 + variance * weight)
        history["ability_variance"][rows] = variance / (1 + variance * weight)
        self._surprise += float(surprise.sum())
        self._weight += float((weight + 0.5).sum())

    def finish_batch(self) -> None:
        """See `Schedule`; moves the global offset."""
        if self._weight:
            self._global_offset += self._config.global_rate * self._surprise / self._weight
        self._surprise = self._weight = 0.0

    def scalars(self) -> dict[str, float]:
        """See `Schedule`."""
        return {"global_offset": self._global_offset}

    def load_scalars(self, scalars: dict[str, float]) -> None:
        """See `Schedule`."""
        self._global_offset = float(scalars["global_offset"])
