# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the settings of a dataclass from a mapping such as a YAML file gives: unknown names, wrong types."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from erpo.tracker.errors import TrackerError

# What a field of each type takes; fields of other types are checked by their dataclass.
_ACCEPTED: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    int | None: (int, type(None)),
    float: (int, float),
    float | None: (int, float, type(None)),
    str: (str,),
    str | None: (str, type(None)),
    tuple[str, ...]: (list, tuple),
}


def known_settings(where: str, config_class: type, values: object) -> dict[str, Any]:
    """Settings as keyword arguments of a dataclass.

    Args:
        where: Name of the section, for errors.
        config_class: The dataclass.
        values: The settings.

    Raises:
        TrackerError: It is no mapping, or the dataclass has no such setting.
    """
    if not isinstance(values, Mapping):
        raise TrackerError(f"{where} must be a mapping of settings, not {values!r}")
    names = [entry.name for entry in fields(config_class)]
    for name in values:
        if name not in names:
            hint = did_you_mean(name, names, f"known settings: {', '.join(names)}")
            raise TrackerError(f"{where}.{name} is not a setting; {hint}")
    return {str(name): value for name, value in values.items()}


def typed_settings(where: str, config_class: type, values: object) -> dict[str, Any]:
    """Likewise, of the types of the dataclass: another one would fail later and elsewhere.

    Raises:
        TrackerError: As `known_settings`, or a setting is of another type.
    """
    known = known_settings(where, config_class, values)
    for entry in fields(config_class):
        if entry.name not in known or entry.type not in _ACCEPTED:
            continue
        value, accepted = known[entry.name], _ACCEPTED[entry.type]
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            wanted = getattr(entry.type, "__name__", str(entry.type))
            raise TrackerError(f"{where}.{entry.name} is {value!r}; it must be of type {wanted}")
    return known


def did_you_mean(name: object, names: Iterable[str], otherwise: str) -> str:
    """A question after the one of these names that is close to `name`; `otherwise`, where none is."""
    close = difflib.get_close_matches(str(name), names, n=1)
    return f"did you mean {close[0]!r}?" if close else otherwise
