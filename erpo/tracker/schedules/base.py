# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a temperature schedule is, and the checks that all of them share.

A new schedule of the package is one file like `linear.py`, one line in `schedules/__init__.py` and one field in
`TrackerConfig`. One of the user's own is a file anywhere (`own.py`, and `examples/own_schedule.py`).
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from erpo.tracker.errors import TrackerError
from erpo.tracker.history import Column, PromptHistory
from erpo.tracker.outcome import GroupOutcomes

# Temperatures travel as float32; closer than this they are the same.
TEMPERATURE_TOLERANCE = 1e-4


def on_grid(temperatures: ArrayLike) -> NDArray[np.float64]:
    """Temperatures rounded to 8 significant bits, as bf16 has them: multiples of 1/128 from 1 to 2, of 1/64 up to 4.

    Prompts are sampled at these, so that no engine, kernel or log of any precision means another temperature than the
    rollout does. A schedule keeps its own, finer ones: small steps add up.
    """
    mantissa, exponent = np.frexp(np.asarray(temperatures, dtype=np.float64))
    return np.ldexp(np.round(mantissa * 256), exponent - 8)


def is_raised(temperatures: ArrayLike, base: float) -> NDArray[np.bool_]:
    """Which temperatures lie above the base, or above the one that stands for it on the grid."""
    return np.asarray(temperatures) > max(base, float(on_grid(base))) + TEMPERATURE_TOLERANCE


class Schedule(ABC):
    """Chooses the sampling temperature of each prompt from its history.

    Attributes:
        t_base: A prompt sampled above this temperature is "raised".
        t_max: The highest temperature the schedule gives, "the cap".
        t_min: The lowest temperature the schedule gives; None: t_base.
        columns: Columns the schedule keeps in the history.
    """

    t_base: float
    t_max: float
    t_min: float | None = None
    columns: tuple[Column, ...] = ()

    @abstractmethod
    def temperatures(self, history: PromptHistory, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Present temperatures of rows, shape (k,) for shape (k,); -1 stands for a prompt without history."""

    @abstractmethod
    def observe(self, history: PromptHistory, rows: NDArray[np.int64], groups: GroupOutcomes) -> None:
        """Learn from one complete group of each row, shape (k,); the rows are distinct.

        The history still shows the state before these visits; only `level` and the schedule's own columns are to be
        written. A prompt that occurs twice in a batch comes in two calls.
        """

    def finish_batch(self) -> None:
        """Called once after the groups of a batch went through `observe`."""
        return

    def scalars(self) -> dict[str, float]:
        """State beside the columns, to be saved and logged."""
        return {}

    def load_scalars(self, scalars: dict[str, float]) -> None:
        """Restore what `scalars` returned."""
        return


def same_temperature(sampled: NDArray[np.float64], present: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether groups were sampled at the present temperature of their prompts, on the grid, shape (k,).

    If not, the temperature moved while the group was in flight: a rule that acts on it would act twice on what was
    sampled once.
    """
    return np.abs(on_grid(sampled) - on_grid(present)) <= TEMPERATURE_TOLERANCE


def require_number(
    setting: str, value: float, wanted: str = "", accepts: Callable[[float], bool] | None = None
) -> None:
    """Raise unless a setting is a finite number, and one that `accepts` accepts; `wanted` says which these are."""
    if not math.isfinite(value):
        raise TrackerError(f"{setting} must be finite, not {value}")
    if accepts is not None and not accepts(value):
        raise TrackerError(f"{setting} must be {wanted}, not {value}")


def require_positive(setting: str, value: float) -> None:
    """Raise unless a setting is a finite number above 0."""
    require_number(setting, value, "above 0", lambda number: number > 0)


def require_step(setting: str, value: float) -> None:
    """Raise unless a setting can serve as temperature step."""
    require_positive(setting, value)
    if value <= TEMPERATURE_TOLERANCE:
        raise TrackerError(f"{setting} must be above {TEMPERATURE_TOLERANCE}, below which temperatures count as equal")


def require_range(section: str, low: float, t_max: float, lowest: str = "t_base") -> None:
    """Raise unless the setting named `lowest` and t_max span a range of temperatures."""
    require_positive(f"{section}.{lowest}", low)
    require_positive(f"{section}.t_max", t_max)
    if t_max < low:
        raise TrackerError(
            f"{section}.t_max = {t_max} is below {section}.{lowest} = {low}; raise t_max or lower {lowest}"
        )
