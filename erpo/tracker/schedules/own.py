# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A schedule of the user's own, from a file that the settings name."""

import hashlib
import importlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard, get_origin

import numpy as np

from erpo.tracker.errors import TrackerError
from erpo.tracker.history import BASE_COLUMNS, Column, PromptHistory
from erpo.tracker.schedules.base import TEMPERATURE_TOLERANCE, Schedule, require_positive
from erpo.tracker.settings import did_you_mean

_PACKAGE = "pkg://"
# Columns of a saved state and of `PromptTracker.frame` beside those of the history.
_TAKEN = {column.name for column in BASE_COLUMNS} | {"key", "temperature"}


def load_own(path: str, name: str, settings: Mapping[str, Any]) -> Schedule:
    """Make a schedule from the user's file.

    Args:
        path: Python file, or ``pkg://module`` for a module that can be imported.
        name: Its subclass of `Schedule`.
        settings: Keyword arguments of the class.

    Raises:
        TrackerError: There is no such file or class, or what it makes is no schedule.
    """
    module = _load(path)
    found = getattr(module, name, None)
    if not _is_schedule(found):
        own = {key: value for key, value in vars(module).items() if _is_schedule(value)}
        here = [key for key, value in own.items() if value.__module__ == module.__name__]
        hint = did_you_mean(name, here, f"it has {', '.join(here) or 'none'}")
        raise TrackerError(f"{path} has no subclass of erpo.tracker.Schedule with the name {name!r}; {hint}")
    try:
        schedule = found(**settings)
        _check(schedule)
    except TrackerError as error:
        raise TrackerError(f"{name} of {path}: {error}") from error
    # Whatever the user's code raises.
    except Exception as error:
        raise TrackerError(
            f"{name} of {path} cannot be used with {dict(settings)} ({_one_line(error)}); fix it or its settings"
        ) from error
    return schedule


def _load(path: str) -> ModuleType:
    try:
        if path.startswith(_PACKAGE):
            return importlib.import_module(path.removeprefix(_PACKAGE))
        file = Path(path).expanduser().resolve()
        if not file.is_file():
            raise TrackerError(f"there is no file {path}; name the file of your schedule")
        spec = importlib.util.spec_from_file_location(
            f"erpo_own_schedule_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}", file
        )
        if spec is None or spec.loader is None:
            raise TrackerError(f"{path} is not a Python file; name one that ends in .py")
        module = importlib.util.module_from_spec(spec)
        # Dataclasses look their module up there.
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return module
    except TrackerError:
        raise
    except Exception as error:
        raise TrackerError(f"{path} cannot be loaded ({_one_line(error)}); fix it") from error


def _is_schedule(value: Any) -> TypeGuard[type[Schedule]]:
    # To Python 3.10 list[int] is a type too, of which issubclass cannot be asked.
    return isinstance(value, type) and get_origin(value) is None and issubclass(value, Schedule)


def _check(schedule: Schedule) -> None:
    """Raise unless the tracker can work with a schedule, in what can be known before a visit."""
    for attribute in ("t_base", "t_max"):
        if not hasattr(schedule, attribute):
            raise TrackerError(f"it has no {attribute}; set self.{attribute} in __init__")
        require_positive(attribute, getattr(schedule, attribute))
    if schedule.t_min is not None:
        require_positive("t_min", schedule.t_min)
    names: list[str] = []
    for column in schedule.columns:
        if not isinstance(column, Column):
            raise TrackerError(f"columns holds {column!r}; make it an erpo.tracker.Column")
        if column.name in {*_TAKEN, *names}:
            raise TrackerError(f"there is a column {column.name!r} already; give its own another name")
        names.append(column.name)
    check_temperatures(schedule, schedule.temperatures(PromptHistory(schedule.columns), np.array([-1, -1])), 2)
    try:
        json.dumps(schedule.scalars(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TrackerError(f"scalars() cannot be saved as JSON ({error}); return finite floats by name") from None


def check_temperatures(schedule: Schedule, temperatures: Any, prompts: int) -> None:
    """Raise unless temperatures are such as the schedule says it gives.

    Args:
        schedule: The schedule.
        temperatures: What it gave for `prompts` prompts.
        prompts: Number of them.

    Raises:
        TrackerError: It is no array of shape (prompts,), or holds a value that is not finite, or not between t_min (or
            t_base) and t_max, by which a run is checked before it starts.
    """
    if not isinstance(temperatures, np.ndarray) or temperatures.shape != (prompts,):
        shape = getattr(temperatures, "shape", type(temperatures).__name__)
        raise TrackerError(f"temperatures() gave {shape} for {prompts} prompts; return an array of shape ({prompts},)")
    lowest = schedule.t_base if schedule.t_min is None else schedule.t_min
    usable = (temperatures > lowest - TEMPERATURE_TOLERANCE) & (temperatures < schedule.t_max + TEMPERATURE_TOLERANCE)
    if not usable.all():
        worst = temperatures[~usable][0]
        raise TrackerError(
            f"temperatures() gave {worst}; return temperatures between {lowest:g} (t_min, or t_base) and "
            f"{schedule.t_max:g} (t_max)"
        )


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
