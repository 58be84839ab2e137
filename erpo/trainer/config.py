# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The settings under ``erpo:``. These dataclasses are the truth; ``configs/erpo/default.yaml`` mirrors them."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import isfinite
from typing import Any

from erpo.tracker import Outcome, TrackerConfig

DROPPABLE = {"all_correct": Outcome.ALL_CORRECT, "all_wrong": Outcome.ALL_WRONG}


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which and what to change."""


@dataclass(frozen=True)
class AccuracyConfig:
    """How a response is judged correct.

    Attributes:
        metric: Key of the reward function's result (``reward_extra_info``) that holds the accuracy; None takes ``acc``,
            or the reward where the reward function returns no ``acc``; "reward" takes the reward.
        threshold: A response is correct from this value on.
        tolerance: Two values that differ by less are equal.
    """

    metric: str | None = None
    threshold: float = 0.5
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        _require(isfinite(self.threshold), f"erpo.accuracy.threshold is {self.threshold}; set a number")
        _require(
            isfinite(self.tolerance) and self.tolerance >= 0,
            f"erpo.accuracy.tolerance is {self.tolerance}; set 0 or a small positive number",
        )


@dataclass(frozen=True)
class GroupsConfig:
    """What happens to finished groups.

    Attributes:
        drop: Kinds of groups that are dropped and refilled: ``all_correct``, ``all_wrong``, both or none.
    """

    drop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "drop", tuple(self.drop))
        for kind in self.drop:
            _require(
                kind in DROPPABLE,
                f"erpo.groups.drop names {kind!r}; use any of {sorted(DROPPABLE)}",
            )

    @property
    def dropped_outcomes(self) -> frozenset[Outcome]:
        """The kinds as outcomes."""
        return frozenset(DROPPABLE[kind] for kind in self.drop)


@dataclass(frozen=True)
class RAConfig:
    """RA, "reactivate training signal": pseudo samples in the statistics of all-correct groups.

    Attributes:
        enable: Whether all-correct groups get an advantage.
        pseudo_reward: Reward of a pseudo sample: what the reward function gives a wrong answer.
        count: Pseudo samples per group.
        scale: Factor on the resulting advantage.
        cap_decay: Further factor for every all-correct visit of the prompt at the temperature cap; 1 is off.
    """

    enable: bool = False
    pseudo_reward: float = 0.0
    count: int = 1
    scale: float = 1.0
    cap_decay: float = 1.0

    def __post_init__(self) -> None:
        _require(isfinite(self.pseudo_reward), f"erpo.ra.pseudo_reward is {self.pseudo_reward}; set a number")
        _require(self.count >= 1, f"erpo.ra.count is {self.count}; set 1 or more, or erpo.ra.enable=false")
        _require(
            isfinite(self.scale) and self.scale > 0,
            f"erpo.ra.scale is {self.scale}; set a positive number, or erpo.ra.enable=false",
        )
        _require(0 < self.cap_decay <= 1, f"erpo.ra.cap_decay is {self.cap_decay}; set a number in (0, 1]")


@dataclass(frozen=True)
class SamplesConfig:
    """Responses that are kept to be read.

    Attributes:
        every: Steps between two samples; 0 is off.
        groups: Groups in a sample, the hottest first.
    """

    every: int = 4
    groups: int = 4

    def __post_init__(self) -> None:
        _require(self.every >= 0, f"erpo.samples.every is {self.every}; set a number of steps, or 0 for none")
        _require(self.groups >= 1, f"erpo.samples.groups is {self.groups}; set 1 or more, or erpo.samples.every=0")


@dataclass(frozen=True)
class StateConfig:
    """What a resumed run accepts.

    Attributes:
        require: Whether a checkpoint without tracker state (one of plain verl, say) is refused.
        accept_changed_data: Whether state of another data set is accepted; histories of prompts in both are kept, the
            new data are read from their beginning.
        accept_changed: Settings that may differ from those of the run or checkpoint that is continued, where they make
            the experiment: names, prefixes of names ("erpo.schedule") or patterns ("erpo.*").
    """

    require: bool = True
    accept_changed_data: bool = False
    accept_changed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "accept_changed", tuple(self.accept_changed))
        for name in self.accept_changed:
            _require(
                isinstance(name, str) and name != "",
                f"erpo.state.accept_changed names {name!r}; name settings, as in [erpo.method,erpo.schedule]",
            )


@dataclass(frozen=True)
class ErpoConfig:
    """All settings of ERPO.

    Attributes:
        method: Name of the method, for folders and plots.
        schedule: Temperature schedule and its constants.
        accuracy: How responses are judged.
        groups: Which groups are dropped.
        ra: RA.
        train_temperature: ``sampling``: log-probs at the temperature each response was sampled at. ``base``: at
            ``rollout.temperature``, off-policy, allowed only with verl's rollout importance weights.
        state: What a resumed run accepts.
        samples: Which responses are kept to be read.
        token_budget: Response tokens to generate, dropped groups included; the run ends with the step that comes
            nearest, or earlier by verl's own settings. None: by those alone.
        poll_interval: Seconds between two looks for finished groups; None keeps verl's 2 s.
    """

    method: str = "erpo"
    schedule: TrackerConfig = field(default_factory=TrackerConfig)
    accuracy: AccuracyConfig = field(default_factory=AccuracyConfig)
    groups: GroupsConfig = field(default_factory=GroupsConfig)
    ra: RAConfig = field(default_factory=RAConfig)
    train_temperature: str = "sampling"
    state: StateConfig = field(default_factory=StateConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    token_budget: int | None = None
    poll_interval: float | None = None

    def __post_init__(self) -> None:
        _require(
            self.train_temperature in ("sampling", "base"),
            f"erpo.train_temperature is {self.train_temperature!r}; set 'sampling' or 'base'",
        )
        _require(
            self.token_budget is None or self.token_budget > 0,
            f"erpo.token_budget is {self.token_budget}; set a positive number of tokens, or null for no budget",
        )
        _require(
            self.poll_interval is None or (isfinite(self.poll_interval) and self.poll_interval > 0),
            f"erpo.poll_interval is {self.poll_interval}; set a positive number of seconds, or null for verl's own",
        )

    @classmethod
    def from_dict(cls, values: Any) -> "ErpoConfig":
        """Read the settings from the resolved ``erpo`` section.

        Raises:
            ConfigError: A setting is unknown, of the wrong type, or cannot be used.
        """
        sections = {
            "accuracy": AccuracyConfig,
            "groups": GroupsConfig,
            "ra": RAConfig,
            "samples": SamplesConfig,
            "state": StateConfig,
        }
        checked = _typed(cls, _known(cls, values, "erpo"), "erpo")
        for name, section in sections.items():
            if name in checked:
                where = f"erpo.{name}"
                checked[name] = section(**_typed(section, _known(section, checked[name], where), where))
        try:
            checked["schedule"] = TrackerConfig.from_dict(checked.get("schedule", {}))
        except ValueError as error:
            raise ConfigError(f"erpo.schedule: {error}") from error
        return cls(**checked)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message + ".")


def _known(cls: type, values: Any, where: str) -> dict[str, Any]:
    """Reject what the dataclass does not know."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} is {values!r}; it must be a mapping of settings.")
    names = [f.name for f in fields(cls)]
    for name in values:
        if name not in names:
            close = difflib.get_close_matches(str(name), names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known settings: {', '.join(names)}."
            raise ConfigError(f"{where}.{name} is not a setting; {hint}")
    return dict(values)


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


def _typed(cls: type, values: dict[str, Any], where: str) -> dict[str, Any]:
    """Reject values of another type than the dataclass's, which would fail later and elsewhere."""
    for f in fields(cls):
        if f.name not in values or f.type not in _ACCEPTED:
            continue
        value, accepted = values[f.name], _ACCEPTED[f.type]
        if not isinstance(value, accepted) or (isinstance(value, bool) and bool not in accepted):
            name = getattr(f.type, "__name__", str(f.type))
            raise ConfigError(f"{where}.{f.name} is {value!r}; it must be of type {name}.")
    return values
