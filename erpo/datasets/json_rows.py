# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of JSON files, each value as it is written.

The library `datasets` makes one type of a column: it rewrites the text "0.50" beside the number 1 to 0.5, and texts
that look like dates to times. A gold answer must stay what it is.
"""

import json
from collections.abc import Collection, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from erpo.datasets.errors import DataError

SUFFIXES = (".jsonl", ".json")
# Digits to which an exponent is written out.
_LONGEST = 400


class Fraction(str):
    """A number of a JSON file with a fraction, with the digits that it has there."""

    __slots__ = ()


class JsonRows:
    """Rows in memory, with what is used here of `datasets.Dataset`.

    Args:
        rows: The rows; a column that a row lacks is None there.
        columns: Names of the columns.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> None:
        self._rows, self.column_names = rows, list(columns)

    def __len__(self) -> int:
        return len(self._rows)

    def select_columns(self, columns: Sequence[str]) -> "JsonRows":
        """The same rows, with these columns only."""
        return JsonRows(self._rows, columns)

    def iter(self, batch_size: int) -> Iterator[dict[str, list[Any]]]:
        """Batches of rows, column by column."""
        for start in range(0, len(self), batch_size):
            rows = self._rows[start : start + batch_size]
            yield {name: [row.get(name) for row in rows] for name in self.column_names}


def read(paths: Sequence[Path], wanted: Collection[str]) -> JsonRows:
    """Rows of files with one row a line, or a list of rows.

    Args:
        paths: The files.
        wanted: Columns whose values are kept; the others are only named.

    Raises:
        DataError: A file holds no rows, or something else.
    """
    columns: dict[str, None] = {}
    rows = []
    for path in paths:
        for row in _rows(path):
            columns |= dict.fromkeys(row)
            rows.append({name: value for name, value in row.items() if name in wanted})
    if not rows:
        raise DataError(f"{', '.join(map(str, paths))} holds no rows; give a file with its rows")
    return JsonRows(rows, list(columns))


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"line {line} of {path} is not UTF-8; convert the file") from None
    if text.lstrip().startswith("["):
        yield from (_checked(row, f"row {number} of {path}") for number, row in enumerate(_parse(text, f"{path}"), 1))
        return
    # Not splitlines(), which would also cut at characters inside of texts.
    for place, content in enumerate(text.split("\n"), 1):
        if content.strip():
            where = f"line {place} of {path}"
            yield _checked(_parse(content, where), where)


def _parse(text: str, where: str) -> Any:
    try:
        return json.loads(text, parse_float=_number)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{where} is not JSON ({str(error).splitlines()[0]}); give one row a line, or a list of rows"
        ) from None


def _number(text: str) -> "int | Fraction":
    """27.0 and 1e3 are integers; any other fraction keeps its digits, without an exponent."""
    try:
        value = Decimal(text)
    # An exponent of more digits than anything has.
    except InvalidOperation:
        return Fraction(text)
    if abs(value.adjusted()) > _LONGEST:
        return Fraction(text)
    if value == value.to_integral_value():
        return int(value)
    return Fraction(format(value, "f"))


def _checked(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise DataError(f"{where} is not a row ({type(row).__name__}); make it an object with names and values")
    return row
