# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A temperature rule with history: a logistic model of all visits, fitted anew after every step.

The chance that a response to prompt i is right, at step s and temperature T, is

    sigmoid(g_s + c x_i + a_is - b (T - 1))

with a level g that is common to all prompts and walks from step to step as the model learns; the length x of the prompt
in characters, standardized over the pool, by which a new prompt starts like those that resemble it; an ability a of
each prompt, 0 in the mean over prompts, that walks from visit to visit; and one slope b for all. The variances of the
abilities and of both walks are fitted as well. What has to be fixed are weak priors.
"""

import math

import numpy as np
from numpy.typing import NDArray

# Means and standard deviations of the priors of b (log-odds per unit of temperature), c and g_1.
_PRIOR_MEANS = np.array([5.0, 0.0, 0.0])
_PRIOR_DEVIATIONS = np.array([5.0, 1.0, 5.0])
# Variances before anything was seen: of abilities, and of the steps of their walk and of the level's. Each counts as
# much as one thing that is seen.
_ABILITY, _ABILITY_WALK, _LEVEL_WALK = 1.0, 0.02, 0.05
# Heat is never taken to be harmless: temperatures would jump between the bounds.
_LEAST_SLOPE = 0.5
# The fit of the step before is the start, so few are enough.
_ITERATIONS = 3
_FIRST_LEVEL = 2


class Abilities:
    """Predicts accuracies from past visits, and gives each prompt the temperature at which it predicts the aim.

    How sure an ability is plays no part. At an aim of 0.5 it could not: the mean prediction over its distribution is
    0.5 at the same temperature. At another aim that mean lies a little nearer to 0.5.

    Args:
        lengths: Characters of the prompts of the pool, (P,).
        aim: Predicted accuracy.
        bounds: Lowest and highest temperature.

    Attributes:
        slope: b, at least 0.5.
        abilities: g + c x + a of each prompt at present: the log-odds that are predicted at T = 1, (P,).
    """

    def __init__(self, lengths: NDArray[np.int64], aim: float, bounds: tuple[float, float]) -> None:
        self._aim, self._bounds = math.log(aim / (1 - aim)), bounds
        prompts = len(lengths)
        self._x = (lengths - lengths.mean()) / max(lengths.std(), 1e-9)
        # b, c and the levels g of all steps, which all prompts share.
        self._shared = _PRIOR_MEANS
        self._variances = np.array([_ABILITY, _ABILITY_WALK, _LEVEL_WALK])
        # Visits, (P, V), in their order; no responses where a prompt has fewer. The last column is always empty: it
        # stands for the present.
        self._visits = np.zeros(prompts, dtype=np.int64)
        self._sizes, self._correct, self._heat, self._log_odds = (np.zeros((prompts, 1)) for _ in range(4))
        self._steps = np.zeros((prompts, 1), dtype=np.int64)
        self.slope = float(_PRIOR_MEANS[0])
        self.abilities = np.zeros(prompts)

    def temperatures(self, prompts: NDArray[np.int64]) -> NDArray[np.float64]:
        """T = 1 + (g + c x + a - logit(aim)) / b within the bounds, (k,) for rows of the pool (k,)."""
        return np.clip(1 + (self.abilities[prompts] - self._aim) / self.slope, *self._bounds)

    def observe(self, prompt: int, temperature: float, correct: float, size: int, step: int) -> None:
        """Remember a visit: so many correct of `size` responses; steps count from 1, without a gap."""
        visit = self._visits[prompt]
        if visit == self._sizes.shape[1] - 1:
            wider = [(0, 0), (0, 1)]
            self._sizes, self._correct = np.pad(self._sizes, wider), np.pad(self._correct, wider)
            self._heat, self._steps = np.pad(self._heat, wider), np.pad(self._steps, wider)
            self._log_odds = np.pad(self._log_odds, wider)
        self._sizes[prompt, visit], self._correct[prompt, visit] = size, correct
        self._heat[prompt, visit], self._steps[prompt, visit] = temperature - 1, step
        self._log_odds[prompt, visit] = self.abilities[prompt] - self.slope * (temperature - 1)
        self._visits[prompt] += 1

    def fit(self, step: int) -> None:
        """Move all estimates towards the mode of the posterior, and the variances by one step of EM.

        Iterations weigh a visit of n responses with n tanh(e / 2) / (2 e), e its log-odds so far: the bound of the
        logistic likelihood that is tight there, so that none of them overshoots, as Newton's may.

        Args:
            step: The present one, of which there are visits.
        """
        steps = np.where(self._sizes > 0, self._steps, step)
        elapsed = (steps - steps[:, :1]).astype(np.float64)
        of_abilities, of_their_walk, of_level_walk = self._variances
        covariance = of_abilities + of_their_walk * np.minimum(elapsed[:, :, None], elapsed[:, None, :])
        # What is shared, N = 2 + step: b, c and the levels. Its columns, (P, V, N), and its prior.
        of_level = steps[:, :, None] == np.arange(1, step + 1)
        of_length = np.broadcast_to(self._x[:, None, None], (*steps.shape, 1))
        columns = np.concatenate([-self._heat[:, :, None], of_length, of_level], axis=2)
        walk = np.diff(np.eye(step), axis=0)
        precision = np.zeros((_FIRST_LEVEL + step,) * 2)
        precision[_FIRST_LEVEL:, _FIRST_LEVEL:] = walk.T @ walk / of_level_walk
        prior = np.arange(len(_PRIOR_MEANS))
        precision[prior, prior] += _PRIOR_DEVIATIONS**-2
        from_prior = np.zeros(len(precision))
        from_prior[prior] = _PRIOR_MEANS / _PRIOR_DEVIATIONS**2
        surplus = self._correct - self._sizes / 2
        for _ in range(_ITERATIONS):
            halves = np.maximum(np.abs(self._log_odds) / 2, 1e-6)
            weights = self._sizes * np.tanh(halves) / (4 * halves)
            # Covariance of the abilities if what is shared were known, (P, V, V); then what they leave to explain.
            given = np.linalg.solve(np.eye(steps.shape[1]) + covariance * weights[:, None, :], covariance)
            weighted = weights[:, :, None] * columns
            left = (columns - given @ weighted).reshape(-1, len(precision))
            total = precision + weighted.reshape(left.shape).T @ left
            self._shared = np.linalg.solve(total, from_prior + left.T @ surplus.ravel())
            of_shared = columns @ self._shared
            own = (given @ (surplus - weights * of_shared)[:, :, None])[:, :, 0]
            self._log_odds = of_shared + own
        self.slope = max(float(self._shared[0]), _LEAST_SLOPE)
        self.abilities = self._log_odds[:, -1].copy()
        self._update_variances(own, given, elapsed, np.linalg.inv(total)[_FIRST_LEVEL:, _FIRST_LEVEL:])

    def _update_variances(
        self,
        own: NDArray[np.float64],
        given: NDArray[np.float64],
        elapsed: NDArray[np.float64],
        of_levels: NDArray[np.float64],
    ) -> None:
        """Expected squares over their numbers, those of abilities given what is shared.

        Args:
            own: Abilities at the visits, (P, V).
            given: Their covariances, (P, V, V).
            elapsed: Steps since the first visit, (P, V).
            of_levels: Covariance of the levels, (S, S).
        """
        seen = self._visits > 0
        passed = np.diff(elapsed, axis=1)
        # Twice in a step it is the same ability.
        again = (self._sizes[:, 1:] > 0) & (passed > 0)
        of_own = np.diagonal(given, axis1=1, axis2=2)
        walked = np.diff(own, axis=1) ** 2 + of_own[:, 1:] + of_own[:, :-1] - 2 * np.diagonal(given, 1, 1, 2)
        per_step = walked[again] / passed[again]
        spread, levels = np.diag(of_levels), self._shared[_FIRST_LEVEL:]
        risen = np.diff(levels) ** 2 + spread[1:] + spread[:-1] - 2 * np.diagonal(of_levels, 1)
        self._variances = np.array(
            [
                (_ABILITY + (own[:, 0] ** 2 + of_own[:, 0])[seen].sum()) / (1 + seen.sum()),
                (_ABILITY_WALK + per_step.sum()) / (1 + len(per_step)),
                (_LEVEL_WALK + risen.sum()) / (1 + len(risen)),
            ]
        )
