# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A schedule that spreads the prompts of every batch over three temperatures, from the first step on."""

import numpy as np

from erpo.tracker import Schedule

TEMPERATURES = (1.0, 1.25, 1.5)
SETTINGS = (
    "method=erpo",
    f"erpo.schedule.path={__file__}",
    "erpo.schedule.name=SpreadSchedule",
    # Nothing is dropped, so that every response is trained on.
    "erpo.groups.drop=[]",
    "algorithm.filter_groups.enable=false",
)


class SpreadSchedule(Schedule):
    """Prompts get the temperatures in turn."""

    def __init__(self, t_base: float) -> None:
        self.t_base, self.t_max = t_base, max(TEMPERATURES)
        self._asked = 0

    def temperatures(self, history, rows):
        found = np.take(TEMPERATURES, np.arange(self._asked, self._asked + len(rows)), mode="wrap")
        self._asked += len(rows)
        return found

    def observe(self, history, rows, groups):
        return
