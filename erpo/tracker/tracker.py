# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tracker: prompt keys in, temperatures out; outcomes in, history out."""

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.config import TrackerConfig, make_schedule
from erpo.tracker.errors import TrackerError
from erpo.tracker.history import PromptHistory
from erpo.tracker.keys import KeyArray, keys_hex
from erpo.tracker.outcome import GroupOutcomes, Outcome
from erpo.tracker.schedules.base import TEMPERATURE_TOLERANCE, Schedule, on_grid
from erpo.tracker.schedules.own import check_temperatures

if TYPE_CHECKING:
    import pandas as pd

FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class Observation:
    """What a batch of outcomes meant for its prompts, in the order of the batch.

    Attributes:
        revived: The previous visit was all-correct and this one is mixed, bool, shape (g,).
        previous_outcome: `Outcome` of the previous visit, -1 if there was none, int8, shape (g,).
    """

    revived: NDArray[np.bool_]
    previous_outcome: NDArray[np.int8]


class PromptTracker:
    """Keeps the history of every prompt and gives each its temperature.

    Args:
        config: Schedule and its settings.
        data_fingerprint: `DataSummary.fingerprint` of the training data; a saved state belongs to one data set.
    """

    def __init__(self, config: TrackerConfig, data_fingerprint: str = "") -> None:
        self.config = config
        self.data_fingerprint = data_fingerprint
        self._schedule = make_schedule(config)
        self._history = self._empty_history()
        self._incomplete_groups = 0

    def __len__(self) -> int:
        """Number of prompts with at least one visit."""
        return len(self._history)

    @property
    def attaches_temperatures(self) -> bool:
        """Whether `temperatures_for` can be asked."""
        return self._schedule is not None

    def temperatures_for(self, keys: KeyArray) -> NDArray[np.float64]:
        """Temperatures of prompts by the schedule's rule, shape (k,) for keys of shape (k,); registers nothing.

        They may be sampled at these or at what `on_grid` makes of them: `observe` takes both for the same.

        Raises:
            TrackerError: the schedule is "none", or gives what cannot be sampled at.
        """
        if self._schedule is None:
            raise TrackerError("the schedule 'none' has no temperatures; check attaches_temperatures before asking")
        temperatures = self._schedule.temperatures(self._history, self._history.rows_for(keys))
        check_temperatures(self._schedule, temperatures, keys.size)
        return temperatures

    def temperatures_of_seen(self) -> NDArray[np.float64]:
        """Present temperatures of all prompts with a visit, shape (len(self),); empty if the schedule is "none"."""
        if self._schedule is None:
            return np.empty(0)
        return self._schedule.temperatures(self._history, np.arange(len(self)))

    def capped_visits_for(self, keys: KeyArray) -> NDArray[np.int64]:
        """Number of all-correct visits sampled at the schedule's cap, shape (k,) for keys of shape (k,)."""
        return self._history.take("capped_visits", self._history.rows_for(keys)).astype(np.int64)

    def observe(self, outcomes: GroupOutcomes, *, more_to_come: bool = False) -> Observation:
        """Enter a batch of groups, best all those of one training step.

        With `more_to_come` the groups are a part of the step's batch: `finish_batch` must be called after the last.

        The order inside the batch does not matter. Groups of the same prompt count as visits one after the other,
        sorted by step, temperature, outcome, accuracy and size; so a schedule that moves the temperature after the
        first finds that the second was sampled at another one, as it would in the next batch. INCOMPLETE groups are
        counted and otherwise ignored.
        """
        incomplete = outcomes.outcomes == Outcome.INCOMPLETE
        complete = np.flatnonzero(~incomplete)
        self._incomplete_groups += int(incomplete.sum())
        revived = np.zeros(len(outcomes), dtype=np.bool_)
        previous = np.empty(len(outcomes), dtype=np.int8)
        rows_of_incomplete = self._history.rows_for(outcomes.keys[incomplete])
        previous[incomplete] = self._history.take("last_outcome", rows_of_incomplete)

        rows = np.empty(len(outcomes), dtype=np.int64)
        rows[complete] = self._history.add(outcomes.keys[complete])
        for visit in _visits(complete, rows, outcomes):
            groups, visited = outcomes.take(visit), rows[visit]
            at_cap = np.zeros(visit.size, dtype=np.bool_)
            if self._schedule is not None:
                self._schedule.observe(self._history, visited, groups)
                at_cap = on_grid(groups.temperatures) >= on_grid(self._schedule.t_max) - TEMPERATURE_TOLERANCE
            revived[visit], previous[visit] = self._history.record(visited, groups, at_cap)
        if not more_to_come:
            self.finish_batch()
        return Observation(revived=revived, previous_outcome=previous)

    def finish_batch(self) -> None:
        """End a batch that was observed in parts."""
        if self._schedule is not None:
            self._schedule.finish_batch()

    def metrics(self) -> dict[str, float]:
        """Numbers to log, over the seen prompts; only the counts while there are none."""
        prompts = len(self)
        metrics = {
            "erpo/tracker/seen_prompts": float(prompts),
            "erpo/tracker/incomplete_groups": float(self._incomplete_groups),
        }
        if prompts:
            last, revivals = self._history["last_outcome"], self._history["revivals"]
            for name, condition in (
                ("share", last == Outcome.ALL_CORRECT),
                ("all_wrong_share", last == Outcome.ALL_WRONG),
                ("ever_revived_share", revivals > 0),
            ):
                metrics[f"erpo/residual/{name}_of_seen_prompts"] = float(np.count_nonzero(condition) / prompts)
            if self._schedule is not None:
                metrics.update(self._temperature_metrics(self._schedule))
        return metrics

    def frame(self) -> "pd.DataFrame":
        """The history as a table, one prompt a row: `key` in hexadecimal, every column, the present temperature."""
        import pandas as pd  # Only reports need it.

        history = self._history
        columns: dict[str, Any] = {"key": keys_hex(history.keys)}
        columns.update({name: history[name].copy() for name in history.column_names})
        if self._schedule is not None:
            columns["temperature"] = self.temperatures_of_seen()
        return pd.DataFrame(columns)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs.

        Returns:
            `keys`, shape (n,), and `columns`, arrays by name of shape (n,), all of them views that are valid until the
            next `observe`; and `meta`, which is plain JSON.
        """
        return {
            "keys": self._history.keys,
            "columns": {name: self._history[name] for name in self._history.column_names},
            "meta": {
                "format_version": FORMAT_VERSION,
                "settings": dataclasses.asdict(self.config),
                "data_fingerprint": self.data_fingerprint,
                "prompts": len(self),
                "scalars": {} if self._schedule is None else self._schedule.scalars(),
                "incomplete_groups": self._incomplete_groups,
            },
        }

    def load_state_dict(
        self, state: dict[str, Any], *, accept_changed_data: bool = False, accept_changed_schedule: bool = False
    ) -> None:
        """Take over a state of `state_dict`; the arrays are copied.

        The schedule must be the same. Its constants may have changed: this tracker's are used from here on.

        Args:
            state: What `state_dict` returned.
            accept_changed_data: Load also a state that belongs to other training data.
            accept_changed_schedule: Load also a state of another schedule: the outcomes stay, and what this schedule
                keeps of a prompt starts from its beginning.

        Raises:
            TrackerError: the state does not fit; the tracker is then as before.
        """
        meta = state["meta"]
        self.check_meta(meta, accept_changed_data=accept_changed_data, accept_changed_schedule=accept_changed_schedule)
        history = self._empty_history()
        same_schedule = meta["settings"]["name"] == self.config.name
        history.restore(state["keys"], state["columns"] if same_schedule else history.adapted(state["columns"]))
        schedule = make_schedule(self.config)
        if schedule is not None and same_schedule:
            schedule.load_scalars(meta["scalars"])
        self._incomplete_groups = int(meta["incomplete_groups"])
        self._history, self._schedule = history, schedule

    def check_meta(
        self, meta: dict[str, Any], *, accept_changed_data: bool = False, accept_changed_schedule: bool = False
    ) -> None:
        """Raise unless the state that `meta` belongs to can be loaded; the arrays need not be read for that."""
        if meta["format_version"] != FORMAT_VERSION:
            raise TrackerError(
                f"the state has format version {meta['format_version']}, this version reads {FORMAT_VERSION}; "
                "load it with the version that saved it"
            )
        saved_name = meta["settings"]["name"]
        if saved_name != self.config.name and not accept_changed_schedule:
            raise TrackerError(
                f"the state was saved with the schedule {saved_name!r}, this run has {self.config.name!r}; "
                f"set the schedule to {saved_name!r}, start without the saved state, or accept the change "
                "(accept_changed: erpo.schedule.name)"
            )
        if meta["data_fingerprint"] != self.data_fingerprint and not accept_changed_data:
            raise TrackerError(
                f"the state belongs to data with fingerprint {meta['data_fingerprint']!r}, this run's data has "
                f"{self.data_fingerprint!r}; use the same data or accept the change (accept_changed_data)"
            )

    def _empty_history(self) -> PromptHistory:
        return PromptHistory(() if self._schedule is None else self._schedule.columns)

    def _temperature_metrics(self, schedule: Schedule) -> dict[str, float]:
        temperatures = self.temperatures_of_seen()
        return {
            "erpo/temperature/prompts_mean": float(temperatures.mean()),
            "erpo/temperature/prompts_max": float(temperatures.max()),
            "erpo/temperature/prompts_frac_raised": float(
                (temperatures > schedule.t_base + TEMPERATURE_TOLERANCE).mean()
            ),
            "erpo/temperature/prompts_frac_at_cap": float(
                (temperatures >= schedule.t_max - TEMPERATURE_TOLERANCE).mean()
            ),
            **{f"erpo/schedule/{name}": value for name, value in schedule.scalars().items()},
        }


def _visits(complete: NDArray[np.int64], rows: NDArray[np.int64], outcomes: GroupOutcomes) -> list[NDArray[np.int64]]:
    """Split a batch into parts with at most one group per row, in an order that only the groups decide.

    Args:
        complete: Positions of the complete groups, shape (c,).
        rows: Row of each group, shape (g,).
        outcomes: The batch.

    Returns:
        Positions in the batch, sorted by row: first visits, second visits and so on.
    """
    significance = ("sizes", "accuracies", "outcomes", "temperatures", "steps")  # np.lexsort: the last key counts most
    order = complete[np.lexsort([getattr(outcomes, name)[complete] for name in significance] + [rows[complete]])]
    place = np.arange(order.size)
    is_first = np.append(True, np.diff(rows[order]) != 0)[: order.size]
    visit = place - np.maximum.accumulate(np.where(is_first, place, 0))
    return [order[visit == number] for number in range(int(visit.max(initial=-1)) + 1)]
