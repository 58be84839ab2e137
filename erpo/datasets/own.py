# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Prepares a set of the user's own: any file or hub set, with the columns of problem and answer named by the user."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from erpo.datasets import own_source
from erpo.datasets.any_answer import takes_lists
from erpo.datasets.catalog import SETS
from erpo.datasets.columns import ColumnPath, find_column, top_columns
from erpo.datasets.errors import DataError
from erpo.datasets.json_rows import Fraction
from erpo.datasets.layouts import cell_text, checked_text
from erpo.datasets.prepare import BATCH, FORMAT_VERSION, Prepared, Problem, discard, finished, prompt_id, write
from erpo.datasets.source import Rows
from erpo.datasets.templates import Prompt
from erpo.tracker.keys import content_hash

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class OwnSet:
    """A set of the user's own.

    Attributes:
        name: Name of the file that is written, and first part of the prompt ids.
        sources: Files (.jsonl, .json or .parquet, all of one kind), one folder laid out as a repository of the hub, or
            one name OWNER/NAME of a set on the hub.
        problem: Column of the problems, nested ones by dots.
        answer: Column of the answers: texts, numbers, or lists of them, any of which is right.
        data_source: Name by which verl chooses the scorer, or any name for a reward function of the user's own.
        id: Column of ids; None: the hash of the problem.
        config: Configuration of a repository; None: its only one.
        split: Split of a repository; None: its only one.
        revision: Commit, tag or branch of a hub set; None: the newest.
        held_out: Problems that go to a file of their own; None: none.
        seed: Which problems these are.
    """

    name: str
    sources: tuple[str, ...]
    problem: str
    answer: str
    data_source: str
    id: str | None = None
    config: str | None = None
    split: str | None = None
    revision: str | None = None
    held_out: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises DataError, in one sentence, for a setting that cannot be used."""
        if self.name in {name for known in SETS for name in (known, f"{known}_train", f"{known}_test")}:
            raise DataError(f"{self.name} is the name of a known set or of its file; choose another NAME")
        if not _NAME.fullmatch(self.name):
            raise DataError(f"{self.name!r} cannot name a file here; use letters, digits, '_', '.' and '-'")
        for option in ("problem", "answer", "data_source"):
            if not getattr(self, option).strip():
                raise DataError(f"--{option.replace('_', '-')} is empty; give it a name")
        if self.held_out is not None and self.held_out < 1:
            raise DataError(f"--held-out is {self.held_out}; set a number of problems above 0, or leave it out")

    @property
    def where(self) -> str:
        """The sources, for messages."""
        return ", ".join(self.sources)


def prepare_own(own: OwnSet, out: str | Path, prompt: Prompt) -> list[Prepared]:
    """Prepare a set: ``NAME.parquet``, or ``NAME_train.parquet`` and ``NAME_test.parquet`` with held-out problems.

    Which problems are held out depends on the seed and on the problems alone, not on the order of the rows. Files whose
    manifests show the same source and settings, and whose hashes are right, are left as they are.

    Args:
        own: The set.
        out: Folder to write to; made if it is not there.
        prompt: How a problem becomes a prompt.

    Raises:
        DataError: A setting or a row cannot be used; nothing was written.
        OSError: `out` cannot be written.
    """
    splits = ("train",) if own.held_out is None else ("train", "test")
    paths = [
        Path(out) / (f"{own.name}.parquet" if own.held_out is None else f"{own.name}_{one}.parquet") for one in splits
    ]
    settings = {
        "format_version": FORMAT_VERSION,
        "name": own.name,
        **prompt.settings,
        "data_source": own.data_source,
        "columns": {"problem": own.problem, "answer": own.answer, "id": own.id},
        "source": own_source.describe(own.sources, own.config, own.split, own.revision),
        "held_out": own.held_out,
        "seed": own.seed,
    }
    each = [{**settings, "split": split} for split in splits]
    ready = [finished(path, one) for path, one in zip(paths, each, strict=True)]
    if all(ready):
        return [prepared for prepared in ready if prepared is not None]
    problems, rows_read = _read(own)
    if any(len(problem.answers) > 1 for problem in problems) and not takes_lists(own.data_source):
        raise DataError(
            f"{own.where} gives lists of answers, but verl's scorer of {own.data_source!r} does not "
            "compare with answers; name another --data-source"
        )
    parts = [problems] if own.held_out is None else _divide(problems, own)
    counts = {"rows_read": rows_read, "repeated": rows_read - len(problems), "conflicting": 0}
    # A run that is killed between two files must not leave one of these and one of an earlier division.
    for path in paths:
        discard(path)
    # Of one kind in all files: verl takes files together only if their columns have the same types.
    lists = any(len(problem.answers) > 1 for problem in problems)
    return [
        write(path, one, prompt, part, {**counts, "rows": len(part)}, lists=lists)
        for path, one, part in zip(paths, each, parts, strict=True)
    ]


def _divide(problems: Sequence[Problem], own: OwnSet) -> list[list[Problem]]:
    assert own.held_out is not None
    if own.held_out >= len(problems):
        raise DataError(
            f"--held-out is {own.held_out}, but {own.where} has {len(problems)} problems; hold out fewer of them"
        )
    ranked = sorted(problems, key=lambda one: content_hash(f"held out {own.seed}", one.text))
    held_out = {one.text for one in ranked[: own.held_out]}
    return [[one for one in problems if (one.text in held_out) is chosen] for chosen in (False, True)]


def _read(own: OwnSet) -> tuple[list[Problem], int]:
    """The different problems in the order of their first rows, and the number of rows."""
    options = {"--problem": own.problem, "--answer": own.answer, **({"--id": own.id} if own.id else {})}
    wanted = {column for text in options.values() for column in top_columns(text)}
    rows = own_source.load(own.sources, wanted, own.config, own.split, own.revision)
    columns = [find_column(option, text, rows.column_names, own.where) for option, text in options.items()]
    problems: dict[str, Problem] = {}
    first: dict[str, int] = {}
    ids: dict[str, str] = {}
    number = 0
    for number, row in enumerate(_rows(rows, columns, own.name), 1):
        try:
            values = [column.take(row[column.column]) for column in columns]
            text = _problem(values[0], columns[0])
            answers = _answers(values[1], columns[1])
            id = _id(values[2], columns[2]) if own.id else None
        except ValueError as error:
            raise DataError(f"row {number} of {own.where} {error}") from None
        name = f"{own.name}:{id}" if id is not None else prompt_id(own.name, text)
        problem = problems.setdefault(text, Problem(text, answers, name))
        first.setdefault(text, number)
        if set(problem.answers) != set(answers):
            raise DataError(
                f"rows {first[text]} and {number} of {own.where} give one problem the answers {_show(problem.answers)} "
                f"and {_show(answers)}; fix or remove one of them"
            )
        if ids.setdefault(name, text) != text:
            raise DataError(
                f"rows {first[ids[name]]} and {number} of {own.where} have the same {own.id!r} ({id}) and different "
                "problems; name a column of unique ids, or leave --id out"
            )
    if not problems:
        raise DataError(f"{own.where} holds no rows; give a source that has rows")
    return list(problems.values()), number


def _rows(rows: Rows, columns: Sequence[ColumnPath], name: str) -> Iterator[Mapping[str, Any]]:
    names = list(dict.fromkeys(column.column for column in columns))
    with tqdm(total=len(rows), desc=name, unit=" rows") as bar:
        for batch in rows.select_columns(names).iter(BATCH):
            cells = [batch[column] for column in names]
            for row in zip(*cells, strict=True):
                yield dict(zip(names, row, strict=True))
            bar.update(len(cells[0]))


def _problem(value: Any, column: ColumnPath) -> str:
    if isinstance(value, Fraction) or not isinstance(value, str | None):
        kind = "float" if isinstance(value, Fraction) else type(value).__name__
        raise ValueError(
            f"has a problem of type {kind} (column {column.text!r}); name a column of texts with {column.option}, a "
            "nested one by dots as in prompt.0.content"
        )
    text = checked_text(value or "").strip()
    if not text:
        raise ValueError(f"has an empty problem (column {column.text!r}); fix or remove it")
    return text


def _answers(value: Any, column: ColumnPath) -> tuple[str, ...]:
    """Gold answers, each once, in their order; one where the cell is no list."""
    texts = [_text(one, column) for one in (value if isinstance(value, list) else [value])]
    if not texts or not all(texts):
        what = "an empty answer in its list" if any(texts) else "an empty answer"
        raise ValueError(f"has {what} (column {column.text!r}); fix or remove it")
    return tuple(dict.fromkeys(texts))


def _text(value: Any, column: ColumnPath) -> str:
    if isinstance(value, float) and math.isinf(value):
        raise ValueError(f"has the answer {value} (column {column.text!r}); fix or remove it")
    try:
        return cell_text(value).strip()
    except ValueError as error:
        inside = "; name what is inside by dots" if isinstance(value, dict) else ""
        raise ValueError(f"{error} (column {column.text!r}){inside}") from None


def _id(value: Any, column: ColumnPath) -> str:
    text = _text(value, column)
    if not text:
        raise ValueError(f"has an empty id (column {column.text!r}); fix it, or leave --id out")
    return text


def _show(answers: Sequence[str]) -> str:
    text = " or ".join(map(repr, answers))
    return text if len(text) <= 80 else f"{text[:77]}..."
