# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The settings under ``erpo:``. These dataclasses are the truth; ``configs/erpo/default.yaml`` mirrors them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from math import isfinite
from typing import Any

from erpo.tracker import Outcome, TrackerConfig, TrackerError, is_correct
from erpo.tracker.settings import typed_settings

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

    def is_correct(self, accuracy: float) -> bool:
        """Whether a response of this accuracy is correct."""
        return is_correct(accuracy, self.threshold, self.tolerance)

    def measure(self, reward: float | None, reported: Mapping[str, Any] | None) -> tuple[float | None, str | None]:
        """The accuracy of one response.

        Args:
            reward: Its reward.
            reported: The other values that the reward function returned for it.

        Returns:
            The accuracy and None; or None and why the response has none.
        """
        reported = reported or {}
        metric = self.metric or ("acc" if "acc" in reported else "reward")
        if metric != "reward" and metric not in reported:
            return None, f"the reward function returned no {metric!r}, only {sorted([*reported, 'reward'])}"
        value = reward if metric == "reward" else reported[metric]
        try:
            accuracy = float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return None, f"the reward function returned {value!r} as {metric!r}"
        return (accuracy, None) if isfinite(accuracy) else (None, f"the reward function returned {metric!r} {value}")


@dataclass(frozen=True)
class GroupsConfig:
    """What happens to finished groups.

    A group with a response that the reward function could not score has no kind. It is kept out of the history, gets
    no advantage, and is dropped and refilled where the method drops any kind.

    Attributes:
        drop: Kinds of groups that are dropped and refilled: ``all_correct``, ``all_wrong``, both or none.
        refill_factor: Groups that are generated for each missing one (``trainer_mode=sync``): 1 wastes none; verl's 2
            needs fewer rounds and throws the surplus away.
        refill_limit: Number of batches of dropped groups after which a step drops no more and trains on what it gets.
        max_unscored: Largest share of a step's groups that may hold a response without a score; above it the run ends.
    """

    drop: tuple[str, ...] = ()
    refill_factor: float = 1.0
    refill_limit: float = 10.0
    max_unscored: float = 0.5

    def __post_init__(self) -> None:
        _require(
            1 <= self.refill_factor <= 2,
            f"erpo.groups.refill_factor is {self.refill_factor}; set 1 for an exact refill, or up to 2",
        )
        _require(
            isfinite(self.refill_limit) and self.refill_limit > 0,
            f"erpo.groups.refill_limit is {self.refill_limit}; set a positive number of batches",
        )
        _require(
            0 <= self.max_unscored <= 1, f"erpo.groups.max_unscored is {self.max_unscored}; set a share from 0 to 1"
        )
        object.__setattr__(self, "drop", tuple(self.drop))
        for kind in self.drop:
            _require(
                kind in DROPPABLE,
                f"erpo.groups.drop names {kind!r}; use any of {sorted(DROPPABLE)}",
            )

    @property
    def dropped_outcomes(self) -> frozenset[Outcome]:
        """The kinds as outcomes, with the groups that have none where any is dropped."""
        kinds = frozenset(DROPPABLE[kind] for kind in self.drop)
        return kinds | {Outcome.INCOMPLETE} if kinds else kinds


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
        groups: Groups in a sample, those with the highest temperatures first.
    """

    every: int = 4
    groups: int = 4

    def __post_init__(self) -> None:
        _require(self.every >= 0, f"erpo.samples.every is {self.every}; set a number of steps, or 0 for none")
        _require(self.groups >= 1, f"erpo.samples.groups is {self.groups}; set 1 or more, or erpo.samples.every=0")


@dataclass(frozen=True)
class TripwireConfig:
    """When a run is stopped because its rollout does not follow the temperatures.

    Attributes:
        enable: Whether the rollout is watched.
        steps: Steps with raised prompts over which the share is fitted.
        limit: Share of the raise that may be missing in the rollout's log-probs: 0 is sampling at each prompt's
            temperature, 1 at ``rollout.temperature``.
    """

    enable: bool = True
    steps: int = 3
    limit: float = 0.3

    def __post_init__(self) -> None:
        _require(self.steps >= 1, f"erpo.tripwire.steps is {self.steps}; set 1 or more, or erpo.tripwire.enable=false")
        _require(
            isfinite(self.limit) and 0 < self.limit < 1,
            f"erpo.tripwire.limit is {self.limit}; set a number between 0 and 1, or erpo.tripwire.enable=false",
        )


@dataclass(frozen=True)
class HeatConfig:
    """What is measured of the tail of the vocabulary (``erpo/heat/*``).

    Attributes:
        tokens: Places of a micro-batch whose probability outside the top 20 tokens is measured, with the pass of the
            old log-probs; 0: none, and no log-probs at T = 1 either.
        rare: A token of a smaller probability at T = 1 breaks a response.
    """

    tokens: int = 512
    rare: float = 1e-5

    def __post_init__(self) -> None:
        _require(self.tokens >= 0, f"erpo.heat.tokens is {self.tokens}; set a number of tokens, or 0 for none")
        _require(0 < self.rare < 1, f"erpo.heat.rare is {self.rare}; set a probability between 0 and 1")


@dataclass(frozen=True)
class StateConfig:
    """What a resumed run accepts.

    Attributes:
        require: Whether a checkpoint without tracker state (one of plain verl, say) is refused.
        accept_changed_data: Whether state of another data set is accepted. Histories of prompts that are in both are
            kept, and the new data are read from their beginning.
        accept_changed: Settings that affect the results and may still differ from those of the run or checkpoint that
            is continued: names, prefixes of names ("erpo.schedule") or patterns ("erpo.*").
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
class WatchdogConfig:
    """When a run that waits for responses ends.

    Attributes:
        seconds: Seconds that the trainer waits for any response to finish before the run ends; a process that died ends
            the wait at once. Set it above the time of the longest response with all its turns. None or 0: no watchdog.
    """

    seconds: float | None = 3600.0

    def __post_init__(self) -> None:
        _require(
            self.seconds is None or (isfinite(self.seconds) and self.seconds >= 0),
            f"erpo.watchdog.seconds is {self.seconds}; set a number of seconds, or null to wait for ever",
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
        tripwire: When a rollout that does not follow the temperatures stops the run.
        heat: What is measured of the tail of the vocabulary.
        state: What a resumed run accepts.
        samples: Which responses are kept to be read.
        watchdog: When a run that waits for responses ends.
        token_budget: Response tokens to generate, dropped groups included. The run ends with the step that comes
            nearest, or earlier if verl's own settings say so. None: only verl's settings end it.
        poll_interval: Seconds between two polls for finished groups; None keeps verl's 2 s.
    """

    method: str = "erpo"
    schedule: TrackerConfig = field(default_factory=TrackerConfig)
    accuracy: AccuracyConfig = field(default_factory=AccuracyConfig)
    groups: GroupsConfig = field(default_factory=GroupsConfig)
    ra: RAConfig = field(default_factory=RAConfig)
    train_temperature: str = "sampling"
    tripwire: TripwireConfig = field(default_factory=TripwireConfig)
    heat: HeatConfig = field(default_factory=HeatConfig)
    state: StateConfig = field(default_factory=StateConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    watchdog: WatchdogConfig = field(default_factory=WatchdogConfig)
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
        try:
            checked = typed_settings("erpo", cls, values)
            for name, section in ((entry.name, entry.type) for entry in fields(cls)):
                if name in checked and name != "schedule" and isinstance(section, type) and is_dataclass(section):
                    checked[name] = section(**typed_settings(f"erpo.{name}", section, checked[name]))
        except TrackerError as error:
            # A sentence, or one that ends with a question.
            raise ConfigError(str(error) if str(error).endswith("?") else f"{error}.") from error
        try:
            checked["schedule"] = TrackerConfig.from_dict(checked.get("schedule", {}))
        except ValueError as error:
            raise ConfigError(f"erpo.schedule: {error}") from error
        return cls(**checked)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message + ".")
