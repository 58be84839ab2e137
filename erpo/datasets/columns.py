# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Columns of a source that the user names, nested ones by dots: ``reward_model.ground_truth``, ``prompt.0.content``."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from erpo.datasets.errors import DataError
from erpo.tracker.settings import did_you_mean


@dataclass(frozen=True)
class ColumnPath:
    """A column, and the way inside its cells.

    Attributes:
        option: Command line option that names it, for the messages.
        text: What the user wrote.
        column: Name of the column.
        inside: Names of fields, or numbers of list elements, from the outside in.
    """

    option: str
    text: str
    column: str
    inside: tuple[str, ...]

    def take(self, cell: Any) -> Any:
        """Value inside a cell; None where a cell on the way is None.

        Raises:
            ValueError: A cell has no such place; the rest of a sentence that begins with the row.
        """
        for place, name in enumerate(self.inside):
            if cell is None:
                return None
            where = ".".join((self.column, *self.inside[:place]))
            if isinstance(cell, dict):
                if name not in cell:
                    raise ValueError(
                        f"has no {name!r} in {where!r}, only {', '.join(map(str, cell)) or 'nothing'}; change "
                        f"{self.option} or fix the row"
                    )
                cell = cell[name]
            elif isinstance(cell, list):
                if not name.isdecimal() or int(name) >= len(cell):
                    raise ValueError(
                        f"has a list of {len(cell)} in {where!r}, which has no place {name!r} (they count from 0); "
                        f"change {self.option} or fix the row"
                    )
                cell = cell[int(name)]
            else:
                raise ValueError(
                    f"has a value of type {type(cell).__name__} in {where!r}, which has no {name!r} inside; change "
                    f"{self.option} or fix the row"
                )
        return cell


def top_columns(text: str) -> set[str]:
    """Columns that a name with dots may mean: the whole name, and what stands before its first dot."""
    return {text, text.partition(".")[0]}


def find_column(option: str, text: str, columns: Sequence[str], where: str) -> ColumnPath:
    """The column that a name means.

    Args:
        option: Command line option, for the messages.
        text: The name; a column whose own name has dots comes first.
        columns: Columns of the source.
        where: Name of the source, for the messages.

    Raises:
        DataError: There is no such column.
    """
    if text in columns:
        return ColumnPath(option, text, text, ())
    column, *inside = text.split(".")
    if inside and column in columns:
        return ColumnPath(option, text, column, tuple(inside))
    hint = did_you_mean(column, columns, f"name one of them with {option}")
    raise DataError(f"{where} has no column {column!r}, only {', '.join(columns)}; {hint}")
