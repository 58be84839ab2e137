# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of the tracker: dataclasses are the source of truth, nonsense is refused before anything starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from erpo.tracker.errors import TrackerError
from erpo.tracker.schedules import SCHEDULES
from erpo.tracker.schedules.band import BandConfig
from erpo.tracker.schedules.base import Schedule
from erpo.tracker.schedules.constant import ConstantConfig
from erpo.tracker.schedules.fitted import FittedConfig
from erpo.tracker.schedules.linear import LinearConfig
from erpo.tracker.schedules.own import load_own
from erpo.tracker.schedules.predictive import PredictiveConfig
from erpo.tracker.schedules.rising import RisingConfig
from erpo.tracker.settings import did_you_mean, known_settings, typed_settings

NO_SCHEDULE = "none"


@dataclass(frozen=True)
class TrackerConfig:
    """Which schedule runs, and the settings of every schedule.

    Attributes:
        name: Name of the schedule, or "none": history is kept, no temperature is attached. None means "none".
            With `path`, the name of a class in that file.
        constant: Settings used if name is "constant".
        rising: Settings used if name is "rising".
        linear: Settings used if name is "linear".
        band: Settings used if name is "band".
        predictive: Settings used if name is "predictive".
        fitted: Settings used if name is "fitted".
        path: Python file, or ``pkg://module``, of a schedule of the user's own; None: it is one of the above.
        own: Settings of that schedule: keyword arguments of its class.
    """

    name: str = "linear"
    constant: ConstantConfig = field(default_factory=ConstantConfig)
    rising: RisingConfig = field(default_factory=RisingConfig)
    linear: LinearConfig = field(default_factory=LinearConfig)
    band: BandConfig = field(default_factory=BandConfig)
    predictive: PredictiveConfig = field(default_factory=PredictiveConfig)
    fitted: FittedConfig = field(default_factory=FittedConfig)
    path: str | None = None
    own: Mapping[str, Any] = field(default_factory=lambda: {"t_base": 1.0})

    def __post_init__(self) -> None:
        if self.name is None:
            object.__setattr__(self, "name", NO_SCHEDULE)
        if self.path is not None:
            self._check_own()
            return
        if not isinstance(self.name, str) or self.name not in (*SCHEDULES, NO_SCHEDULE):
            names = [*SCHEDULES, NO_SCHEDULE]
            hint = did_you_mean(self.name, names, f"choose from {', '.join(names)}")
            raise TrackerError(f"there is no schedule {self.name!r}; {hint}")

    def _check_own(self) -> None:
        if not isinstance(self.path, str) or not self.path:
            raise TrackerError(f"path is {self.path!r}; set the Python file of your schedule, or null")
        if not isinstance(self.name, str) or self.name == NO_SCHEDULE:
            raise TrackerError(f"path is {self.path}, but name is {self.name!r}; set name to the class in that file")
        if not isinstance(self.own, Mapping) or not all(isinstance(name, str) for name in self.own):
            raise TrackerError(f"own must be a mapping of settings, not {self.own!r}")

    @property
    def section(self) -> str:
        """Name of the field with the settings of the schedule that is chosen."""
        return self.name if self.path is None else "own"

    @property
    def attaches_temperatures(self) -> bool:
        """Whether prompts get a temperature of their own."""
        return self.name != NO_SCHEDULE

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> "TrackerConfig":
        """Build the settings from a mapping such as a YAML file gives; what is left out has its default.

        Sections of schedules that are not chosen have no effect: their names and types are checked, not their ranges,
        and they keep their defaults.

        Raises:
            TrackerError: a setting is unknown, of the wrong type or out of range, or a schedule of the user's own
                cannot be loaded.
        """
        arguments = known_settings("tracker", cls, settings)
        for section in SCHEDULES:
            if section in arguments:
                section_class = type(getattr(cls(), section))
                values = typed_settings(section, section_class, arguments.pop(section))
                if section == settings.get("name", cls.name):
                    arguments[section] = section_class(**values)
        config = cls(**arguments)
        if config.path is not None:
            make_schedule(config)
        return config


def make_schedule(config: TrackerConfig) -> Schedule | None:
    """Make the schedule that `config.name` chooses; None for "none".

    Raises:
        TrackerError: It is one of the user's own, and cannot be loaded.
    """
    if not config.attaches_temperatures:
        return None
    if config.path is not None:
        return load_own(config.path, config.name, config.own)
    return SCHEDULES[config.name](getattr(config, config.name))
