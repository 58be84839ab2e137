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
"""Temperature schedules by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erpo.tracker.schedules.band import BandSchedule
from erpo.tracker.schedules.base import Schedule
from erpo.tracker.schedules.constant import ConstantSchedule
from erpo.tracker.schedules.linear import LinearSchedule
from erpo.tracker.schedules.predictive import PredictiveSchedule
from erpo.tracker.schedules.rising import RisingSchedule

if TYPE_CHECKING:
    from erpo.tracker.config import TrackerConfig

# Each is made from the field of TrackerConfig that has its name.
SCHEDULES: dict[str, Callable[[Any], Schedule]] = {
    "constant": ConstantSchedule,
    "rising": RisingSchedule,
    "linear": LinearSchedule,
    "band": BandSchedule,
    "predictive": PredictiveSchedule,
}


def make_schedule(config: "TrackerConfig") -> Schedule | None:
    """Make the schedule that `config.name` chooses; None for "none"."""
    if not config.attaches_temperatures:
        return None
    return SCHEDULES[config.name](getattr(config, config.name))


__all__ = ["SCHEDULES", "Schedule", "make_schedule"]
