# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Temperature schedules by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from erpo.tracker.schedules.band import BandSchedule
from erpo.tracker.schedules.base import Schedule
from erpo.tracker.schedules.constant import ConstantSchedule
from erpo.tracker.schedules.linear import LinearSchedule
from erpo.tracker.schedules.own import load_own
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
    """Make the schedule that `config.name` chooses; None for "none".

    Raises:
        TrackerError: It is one of the user's own, and cannot be loaded.
    """
    if not config.attaches_temperatures:
        return None
    if config.path is not None:
        return load_own(config.path, config.name, config.own)
    return SCHEDULES[config.name](getattr(config, config.name))


__all__ = ["SCHEDULES", "Schedule", "make_schedule"]
