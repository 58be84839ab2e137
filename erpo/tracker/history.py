# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The history of every seen prompt, one array per quantity."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.errors import TrackerError
from erpo.tracker.index import KeyIndex
from erpo.tracker.keys import KeyArray
from erpo.tracker.outcome import GroupOutcomes, Outcome

# `last_outcome` of a prompt without a visit.
NEVER = -1


@dataclass(frozen=True)
class Column:
    """One quantity per prompt: its name, dtype and the value of a prompt without history."""

    name: str
    dtype: str
    initial: float = 0


BASE_COLUMNS = (
    Column("visits", "i4"),
    Column("all_correct_visits", "i4"),
    # Consecutive all-correct visits up to now.
    Column("streak", "i4"),
    # h_q of the linear schedule; stays 0 under the others.
    Column("level", "i4"),
    # All-correct visits sampled at the highest temperature of the schedule.
    Column("capped_visits", "i4"),
    Column("revivals", "i4"),
    Column("last_accuracy", "f4", np.nan),
    Column("last_temperature", "f4", np.nan),
    Column("last_step", "i4", -1),
    Column("last_outcome", "i1", NEVER),
)

# Base columns that mean something under the schedule that wrote them only.
OF_THE_SCHEDULE = {"level", "capped_visits"}


class PromptHistory:
    """Keys and columns of the seen prompts; a prompt is a row, in the order of registration.

    Args:
        own_columns: Columns that a schedule keeps besides `BASE_COLUMNS`.
    """

    def __init__(self, own_columns: Iterable[Column] = ()) -> None:
        self._columns = {column.name: column for column in (*BASE_COLUMNS, *own_columns)}
        self._index = KeyIndex()
        # One entry past the last row holds the initial value, so that row -1 reads it.
        self._arrays = {name: np.full(1, column.initial, column.dtype) for name, column in self._columns.items()}

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column, shape (n,), as a view that can be written to."""
        return self._arrays[name][: len(self)]

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return tuple(self._columns)

    @property
    def keys(self) -> KeyArray:
        """Prompt keys by row, shape (n,); a view."""
        return self._index.keys

    def rows_for(self, keys: KeyArray) -> NDArray[np.int64]:
        """Rows of keys, shape (k,) for shape (k,); -1 for prompts without history."""
        return self._index.rows_for(keys)

    def add(self, keys: KeyArray) -> NDArray[np.int64]:
        """Rows of keys, shape (k,) for shape (k,); prompts without history get one."""
        old_size = len(self)
        rows = self._index.add(keys)
        for name, column in self._columns.items():
            if len(self) >= self._arrays[name].size:
                grown = np.empty(max(len(self) + 1, self._arrays[name].size * 3 // 2), dtype=column.dtype)
                grown[:old_size] = self._arrays[name][:old_size]
                self._arrays[name] = grown
            self._arrays[name][old_size : len(self) + 1] = column.initial
        return rows

    def take(self, name: str, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Values of a column at rows, shape (k,), as a copy; a row of -1 reads as a prompt without history."""
        return self._arrays[name][: len(self) + 1][rows]

    def record(
        self, rows: NDArray[np.int64], groups: GroupOutcomes, at_cap: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.int8]]:
        """Enter one visit of each row.

        Args:
            rows: Distinct rows, shape (k,).
            groups: The complete groups of these rows, in this order.
            at_cap: Whether each group was sampled at the highest temperature, shape (k,).

        Returns:
            Two arrays of shape (k,). The first says which prompts are revived, all-correct at the previous visit and
            mixed at this one; the second has the previous outcomes, `NEVER` at a first visit.
        """
        previous = self["last_outcome"][rows]
        all_correct = groups.outcomes == Outcome.ALL_CORRECT
        revived = (previous == Outcome.ALL_CORRECT) & (groups.outcomes == Outcome.MIXED)
        self["visits"][rows] += 1
        self["all_correct_visits"][rows] += all_correct
        self["streak"][rows] = np.where(all_correct, self["streak"][rows] + 1, 0)
        self["capped_visits"][rows] += all_correct & at_cap
        self["revivals"][rows] += revived
        self["last_accuracy"][rows] = groups.accuracies
        self["last_temperature"][rows] = groups.temperatures
        self["last_step"][rows] = groups.steps
        self["last_outcome"][rows] = groups.outcomes
        return revived, previous

    def adapted(self, columns: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Saved columns of another schedule as this history has them: what a schedule keeps has its initial value."""
        kept = {column.name for column in BASE_COLUMNS} - OF_THE_SCHEDULE
        prompts = columns["visits"].size
        return {
            name: columns[name] if name in kept else np.full(prompts, column.initial, column.dtype)
            for name, column in self._columns.items()
        }

    def restore(self, keys: KeyArray, columns: dict[str, NDArray[Any]]) -> None:
        """Replace everything by copies of saved arrays.

        Raises:
            TrackerError: keys repeat, or a column is missing, unknown, or of another length or dtype.
        """
        if set(columns) != set(self._columns):
            raise TrackerError(
                f"the saved columns are {sorted(columns)}, this version needs {sorted(self._columns)}; "
                "load the state with the version that saved it"
            )
        for name, column in self._columns.items():
            values = columns[name]
            if values.shape != keys.shape or values.dtype != np.dtype(column.dtype):
                raise TrackerError(
                    f"the saved column {name!r} is {values.dtype} of shape {values.shape}, expected {column.dtype} of "
                    f"shape {keys.shape}; load a state that was saved whole"
                )
        self._index = KeyIndex(keys)
        for name, column in self._columns.items():
            self._arrays[name] = np.empty(keys.size + 1, dtype=column.dtype)
            self._arrays[name][:-1] = columns[name]
            self._arrays[name][-1] = column.initial
