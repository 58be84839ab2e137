# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Temperature schedules by name."""

from collections.abc import Callable
from typing import Any

from erpo.tracker.schedules.band import BandSchedule
from erpo.tracker.schedules.base import Schedule
from erpo.tracker.schedules.constant import ConstantSchedule
from erpo.tracker.schedules.fitted import FittedSchedule
from erpo.tracker.schedules.linear import LinearSchedule
from erpo.tracker.schedules.predictive import PredictiveSchedule
from erpo.tracker.schedules.rising import RisingSchedule

# Each is made from the field of TrackerConfig that has its name.
SCHEDULES: dict[str, Callable[[Any], Schedule]] = {
    "constant": ConstantSchedule,
    "rising": RisingSchedule,
    "linear": LinearSchedule,
    "band": BandSchedule,
    "predictive": PredictiveSchedule,
    "fitted": FittedSchedule,
}
