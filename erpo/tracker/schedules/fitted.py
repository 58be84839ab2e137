# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A logistic model of all past groups picks the temperature where a target accuracy is expected."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.history import Column, PromptHistory
from erpo.tracker.outcome import GroupOutcomes
from erpo.tracker.schedules.base import Schedule, require_number, require_range

# Prior means and standard deviations of the slope b (log-odds per unit of temperature) and of the first level g.
_PRIOR_MEANS = np.array([5.0, 0.0])
_PRIOR_DEVIATIONS = np.array([5.0, 5.0])
# Variances: of abilities over prompts, and of a step of an ability's walk and of the level's. With too narrow a spread
# of abilities the slope comes out too small. Fitting them too gained nothing that could be seen.
_ABILITY, _ABILITY_WALK, _LEVEL_WALK = 2.0, 0.02, 0.02
# Heat is never taken to be harmless: temperatures would jump between the bounds.
_LEAST_SLOPE = 0.5
# The prediction is the start, so few are enough. From the priors, a batch that is all right or all wrong has its mode
# far away: stopping short of it only keeps the first steps calm.
_ITERATIONS = 8


@dataclass(frozen=True)
class FittedConfig:
    """Settings of the fitted schedule; slope, level and abilities are fitted as the run goes on.

    Attributes:
        target: Accuracy that the temperature aims at.
        t_base: Lowest temperature.
        t_max: Cap.
    """

    target: float = 0.4
    t_base: float = 1.0
    t_max: float = 1.5

    def __post_init__(self) -> None:
        require_range("fitted", self.t_base, self.t_max)
        require_number("fitted.target", self.target, "between 0 and 1", lambda target: 0 < target < 1)


class FittedSchedule(Schedule):
    """T = clip(1 + (g + a - logit(target)) / b, t_base, t_max).

    The chance that a response is right is sigmoid(g + a - b (T - 1)). The level g is common to all prompts and
    walks from step to step as the model learns, the ability a is the prompt's own and walks from visit to visit, and
    the slope b is one for all. (b, g) is normal with a mean and a covariance, and every ability with a mean m and a
    variance v of its own. The first groups of a run are sampled at one temperature, 1.08 for the target 0.4.

    Groups that are observed together update all of these at once. A group of n responses with k correct and log-odds e
    counts as an observation z = (k - n / 2) / w of its log-odds with variance 1 / w, w = n tanh(e / 2) / (2 e): the
    bound of the logistic likelihood that is tight at e (Jaakkola and Jordan 2000), so that no iteration overshoots.
    What a group tells about b and g is kept for both, how an ability then depends on them is not. So the variances are
    working values of a filter, narrower than the errors; and a slope that changes shows in the level.

    A group sampled at an earlier temperature informs as well as any other, and so does the second of two in-flight
    groups of a prompt: both are counted.
    """

    def __init__(self, config: FittedConfig) -> None:
        self.t_base = config.t_base
        self.t_max = config.t_max
        self.columns = (Column("ability_mean", "f8"), Column("ability_variance", "f8", _ABILITY))
        self._target_log_odds = math.log(config.target / (1 - config.target))
        # Of b and g.
        self._mean = _PRIOR_MEANS
        self._covariance = np.diag(_PRIOR_DEVIATIONS**2)
        self._last_step = -1

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Schedule`."""
        slope, level = self._mean
        surplus = level + history.take("ability_mean", rows) - self._target_log_odds
        return np.clip(1 + surplus / max(slope, _LEAST_SLOPE), self.t_base, self.t_max)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """See `Schedule`."""
        if not rows.size:
            return
        step = int(groups.steps.max())
        if 0 <= self._last_step < step:
            self._covariance = self._covariance + np.diag([0.0, _LEVEL_WALK * (step - self._last_step)])
        self._last_step = max(step, self._last_step)
        last_step = history.take("last_step", rows)
        elapsed = np.where(last_step >= 0, np.maximum(groups.steps - last_step, 0), 0)
        before = history.take("ability_mean", rows)
        variance = history.take("ability_variance", rows) + _ABILITY_WALK * elapsed
        # However long ago, a prompt that was seen is not less known than a new one.
        variance = np.minimum(variance, _ABILITY)

        features = np.stack([1 - groups.temperatures, np.ones(rows.size)], axis=1)
        precision = np.linalg.inv(self._covariance)
        from_prior = precision @ self._mean
        mean, ability = self._mean, before
        surplus = groups.sizes * (groups.accuracies - 0.5)
        for _ in range(_ITERATIONS):
            halves = np.maximum(np.abs(features @ mean + ability) / 2, 1e-6)
            weights = groups.sizes * np.tanh(halves) / (4 * halves)
            # With the ability unknown the observation has the variance v + 1 / w.
            gain = variance * weights / (1 + variance * weights)
            informed = features * (weights / (1 + variance * weights))[:, None]
            covariance = np.linalg.inv(precision + informed.T @ features)
            unexplained = surplus / weights - before
            mean = covariance @ (from_prior + informed.T @ unexplained)
            ability = before + gain * (unexplained - features @ mean)
        of_shared = np.einsum("ij,jk,ik->i", features, covariance, features)
        history["ability_mean"][rows] = ability
        history["ability_variance"][rows] = variance * (1 - gain) + gain**2 * of_shared
        # Symmetric to the last bit, as a state that is loaded is.
        self._mean, self._covariance = mean, (covariance + covariance.T) / 2

    def scalars(self) -> dict[str, float]:
        """See `Schedule`."""
        return {
            "slope": float(self._mean[0]),
            "level": float(self._mean[1]),
            "slope_variance": float(self._covariance[0, 0]),
            "level_variance": float(self._covariance[1, 1]),
            "slope_level_covariance": float(self._covariance[0, 1]),
            "last_step": float(self._last_step),
        }

    def load_scalars(self, scalars: dict[str, float]) -> None:
        """See `Schedule`."""
        shared = scalars["slope_level_covariance"]
        self._mean = np.array([scalars["slope"], scalars["level"]])
        self._covariance = np.array([[scalars["slope_variance"], shared], [shared, scalars["level_variance"]]])
        self._last_step = int(scalars["last_step"])
