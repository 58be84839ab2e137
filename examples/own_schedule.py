# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A temperature schedule of your own, in one file that the settings name.

Train with it:

    python -m recipe.erpo.main_erpo experiment=cpu_arithmetic method=erpo \
        erpo.schedule.path=examples/own_schedule.py erpo.schedule.name=AverageSchedule +erpo.schedule.own.t_max=2.0

What stands under `erpo.schedule.own` becomes the keyword arguments of the class; `t_base` is always there, and is
`actor_rollout_ref.rollout.temperature`. The start-up checks load the file, its columns and scalars are saved in every
checkpoint, and a run that goes on with another content of the file is refused like one with another constant.
"""

import numpy as np
from numpy.typing import NDArray

from erpo.tracker import Column, GroupOutcomes, PromptHistory, Schedule, TrackerError


class AverageSchedule(Schedule):
    """T = t_base + (t_max - t_base) * max(0, 2a - 1), a the running average of the prompt's group accuracies.

    A visit with the group accuracy p moves the average: a += rate * (p - a). A prompt without history has a = 1/2, so
    that its temperature is t_base.

    Args:
        t_base: Temperature of prompts that are wrong half of the time, or more often.
        t_max: Temperature of prompts that are always right.
        rate: Weight of the newest visit, above 0 and up to 1.
    """

    columns = (Column("average_accuracy", "f8", 0.5),)

    def __init__(self, t_base: float, t_max: float = 1.4, rate: float = 0.3) -> None:
        if t_max < t_base:
            raise TrackerError(f"t_max = {t_max} is below t_base = {t_base}; raise t_max")
        if not 0 < rate <= 1:
            raise TrackerError(f"rate must be above 0 and up to 1, not {rate}")
        self.t_base, self.t_max = t_base, t_max
        self._rate = rate

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Present temperatures, shape (k,); the row -1 stands for a prompt without history."""
        average = history.take("average_accuracy", rows)
        return self.t_base + (self.t_max - self.t_base) * np.maximum(0, 2 * average - 1)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """Learn from one group of each row, shape (k,)."""
        average = history.take("average_accuracy", rows)
        history["average_accuracy"][rows] = average + self._rate * (groups.accuracies - average)
