# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a method decides: the temperature of a prompt, whether it is sampled at all, and how often.

An oracle decides by the model's own exact probability of the worked answer, free of charge. It is no method, but an
upper bound: where it gains nothing, no history of outcomes can.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.research.abilities import Abilities
from benchmarks.research.groups import Group, LoopConfig
from benchmarks.research.model import ToyModel, exact
from benchmarks.research.toy import unbroken_probability
from erpo.tasks.arithmetic.task import Problem
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array, prompt_key

_GRID = tuple(np.round(np.arange(0.7, 1.81, 0.1), 1).tolist())
_LEAST_CHANCE = 0.1
_FEWEST, _MOST = 2, 24


@dataclass(frozen=True)
class Arm:
    """A method.

    Attributes:
        name: Name in the tables.
        heat: First and last temperature, linear in the tokens spent and the same for every prompt.
        schedule: Settings of the product's tracker, as in the section ``erpo.schedule`` of a run, in the place of heat.
        predicted_accuracy: A model of all visits gives each prompt the temperature at which it predicts this accuracy,
            in the place of heat.
        bounds: Lowest and highest temperature that it may give.
        oracle_accuracy: An oracle gives each prompt the temperature nearest to this accuracy, in the place of heat.
        oracle_selection: An oracle passes prompts over that have little chance of a mixed group.
        oracle_sizes: An oracle spreads the responses of a step over its prompts, by the standard deviation of accuracy.
        ra: Whether all-correct groups get RA's advantage.
        drop: Kinds of groups that are dropped and refilled.
        learning_rate: Of AdamW.
        min_p: Tokens less probable than this share of the most probable one are cut, in sampling and in the loss.
    """

    name: str
    heat: tuple[float, float] = (1.0, 1.0)
    schedule: Mapping[str, Any] = field(default_factory=dict)
    predicted_accuracy: float | None = None
    bounds: tuple[float, float] = (_GRID[0], _GRID[-1])
    oracle_accuracy: float | None = None
    oracle_selection: bool = False
    oracle_sizes: bool = False
    ra: bool = False
    drop: tuple[Outcome, ...] = ()
    learning_rate: float = 2e-4
    min_p: float = 0.0


class Policy:
    """An arm in a run.

    Args:
        arm: The method.
        model: The model that is trained; oracles look into it.
        train: Training prompts.
        config: What all arms share.
    """

    def __init__(self, arm: Arm, model: ToyModel, train: Sequence[Problem], config: LoopConfig) -> None:
        self._arm, self._model, self._train, self._config = arm, model, train, config
        self._keys = keys_array([prompt_key("arithmetic", problem.prompt) for problem in train])
        self._tracker = PromptTracker(TrackerConfig.from_dict(dict(arm.schedule))) if arm.schedule else None
        self._abilities: Abilities | None = None
        if arm.predicted_accuracy is not None:
            characters = np.array([len(problem.prompt) for problem in train])
            self._abilities = Abilities(characters, arm.predicted_accuracy, arm.bounds)
        self._lengths = np.array([len(problem.response) + 1 for problem in train])
        self._spent = 0.0

    def _right(self, prompts: NDArray[np.int64], temperatures: Sequence[float]) -> NDArray[np.float64]:
        """The model's exact accuracies, (P, K)."""
        right = exact(self._model, [self._train[prompt] for prompt in prompts], temperatures).right
        if self._config.unlearnable:
            for column, temperature in enumerate(temperatures):
                right[:, column] *= unbroken_probability(np.full(len(prompts), temperature), self._lengths[prompts])
        return right

    def _heat(self) -> float:
        first, last = self._arm.heat
        return first + (last - first) * self._spent

    def accepts(self, prompt: int, choice: random.Random) -> bool:
        """Whether a prompt is sampled this time."""
        if not self._arm.oracle_selection:
            return True
        if self._arm.oracle_accuracy is None:
            right = self._right(np.array([prompt]), (self._heat(),))[0, 0]
        else:
            at_each = self._right(np.array([prompt]), _GRID)[0]
            right = at_each[np.abs(at_each - self._arm.oracle_accuracy).argmin()]
        n = self._config.n
        return choice.random() < max(_LEAST_CHANCE, 1 - right**n - (1 - right) ** n)

    def temperatures(self, prompts: NDArray[np.int64], spent: float) -> NDArray[np.float64]:
        """Sampling temperatures, (P,), when a share `spent` of the budget is used up."""
        self._spent = spent
        if self._arm.oracle_accuracy is not None:
            distance = np.abs(self._right(prompts, _GRID) - self._arm.oracle_accuracy)
            return np.array(_GRID)[distance.argmin(1)]
        if self._tracker is not None:
            return self._tracker.temperatures_for(self._keys[prompts])
        if self._abilities is not None:
            return self._abilities.temperatures(prompts)
        return np.full(len(prompts), self._heat())

    def sizes(self, prompts: NDArray[np.int64], temperatures: NDArray[np.float64]) -> NDArray[np.int64]:
        """Responses to each prompt, (P,), n on average."""
        n = self._config.n
        if not self._arm.oracle_sizes:
            return np.full(len(prompts), n)
        different = sorted(set(temperatures.tolist()))
        right = self._right(prompts, different)[np.arange(len(prompts)), np.searchsorted(different, temperatures)]
        return spread(np.sqrt(right * (1 - right)), n * len(prompts))

    def observe(self, groups: Sequence[Group], step: int) -> None:
        """Tells the tracker, or the model of all visits, what was sampled."""
        if self._abilities is not None:
            for group in groups:
                correct, size = group.accuracies.sum(), len(group.accuracies)
                self._abilities.observe(group.prompt, group.temperature, correct, size, step)
        if self._tracker is None:
            return
        self._tracker.observe(
            GroupOutcomes(
                keys=self._keys[[group.prompt for group in groups]],
                outcomes=np.array([group.outcome for group in groups]),
                accuracies=np.array([group.accuracies.mean() for group in groups]),
                sizes=np.array([len(group.accuracies) for group in groups]),
                temperatures=np.array([group.temperature for group in groups]),
                steps=np.full(len(groups), step),
            ),
            more_to_come=True,
        )

    def finish_step(self, step: int) -> None:
        """Ends the batch of a step, refills included."""
        if self._tracker is not None:
            self._tracker.finish_batch()
        if self._abilities is not None:
            self._abilities.fit(step)


def spread(shares: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to `shares` (P,), each within bounds; their sum is as near `total` as these allow."""
    shares = np.maximum(shares, 1e-6)
    low, high = 0.0, total / shares.min()
    for _ in range(60):
        scale = (low + high) / 2
        low, high = (scale, high) if np.clip(shares * scale, _FEWEST, _MOST).sum() < total else (low, scale)
    wanted = np.clip(shares * high, _FEWEST, _MOST)
    sizes = np.floor(wanted).astype(np.int64)
    missing = max(0, min(total, round(wanted.sum())) - int(sizes.sum()))
    sizes[np.argsort(sizes - wanted)[:missing]] += 1
    return sizes
