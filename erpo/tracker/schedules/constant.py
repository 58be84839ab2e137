# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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
        self.t_max = config.temperature

    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """See `Schedule`."""
        return np.full(rows.shape, self.t_max, dtype=np.float64)

    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """See `Schedule`; nothing to learn."""
