# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a set as Parquet in verl's row schema, without repeated problems, and a manifest beside it."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from erpo.datasets import source as sources
from erpo.datasets.any_answer import PATH as ANY_ANSWER
from erpo.datasets.catalog import MathSet, find_set
from erpo.datasets.errors import DataError
from erpo.datasets.layouts import choose_layout
from erpo.datasets.templates import Prompt, template_text
from erpo.tracker.keys import content_hash, key_hex

# Raise it with every change of what is written from the same rows.
FORMAT_VERSION = 2
BATCH = 10_000
_TEXT = pa.string()


def schema(*, lists: bool) -> pa.Schema:
    """Columns of a prepared file, one schema for all sets: verl concatenates its data files.

    Args:
        lists: Whether gold answers are lists.
    """
    return pa.schema(
        {
            "data_source": _TEXT,
            "prompt": pa.list_(pa.struct({"role": _TEXT, "content": _TEXT})),
            "ability": _TEXT,
            "reward_model": pa.struct({"style": _TEXT, "ground_truth": pa.list_(_TEXT) if lists else _TEXT}),
            "extra_info": pa.struct(
                {"index": pa.int64(), "split": _TEXT, "prompt_id": _TEXT, "set": _TEXT, "answer_form": _TEXT}
            ),
        }
    )


@dataclass(frozen=True)
class Problem:
    """One problem of a set.

    Attributes:
        text: The bare problem.
        answers: Its gold answers, any of which is right.
        prompt_id: `extra_info.prompt_id`.
    """

    text: str
    answers: tuple[str, ...]
    prompt_id: str


@dataclass(frozen=True)
class Prepared:
    """One file that `prepare` wrote, or found up to date.

    Attributes:
        path: The Parquet file.
        rows_read: Rows of the source.
        rows: Rows of the file, all of different problems.
        repeated: Rows dropped because an earlier one has the same problem.
        conflicting: Problems dropped because their rows give different gold answers.
        reused: Whether the file was up to date.
        lists: Whether its gold answers are lists.
    """

    path: Path
    rows_read: int
    rows: int
    repeated: int
    conflicting: int
    reused: bool
    lists: bool = False

    def __str__(self) -> str:
        dropped = f"dropped {self.repeated:,} repeated rows"
        if self.conflicting:
            dropped += f" and {self.conflicting:,} problems with contradicting answers"
        state = " (up to date)" if self.reused else ""
        scorer = f"; answers are lists: set reward.custom_reward_function.path={ANY_ANSWER}" if self.lists else ""
        return f"{self.path}: {self.rows:,} prompts from {self.rows_read:,} rows, {dropped}{state}{scorer}"


def prepare(
    name: str,
    out: str | Path,
    source: str = sources.HUB,
    template: str = "dapo",
    split: str | None = None,
    system: str | None = None,
) -> list[Prepared]:
    """Prepare a set: one Parquet file and one manifest for each of its splits.

    A set with one split becomes ``NAME.parquet``, one with two ``NAME_train.parquet`` and ``NAME_test.parquet``. A
    file whose manifest shows the same source and settings, and whose hash is right, is left as it is.

    Args:
        name: Name of the set (`catalog.SETS`).
        out: Folder to write to; made if it is not there.
        source: "hub", or a file or folder with the set's rows; a file holds one split.
        template: Name of a prompt template, or a text with ``{problem}``.
        split: Prepare this split only.
        system: Text of a system message; None: there is none.

    Raises:
        DataError: A setting or a row cannot be used; nothing of that split was written.
        OSError: `out` cannot be written.
    """
    math_set = find_set(name)
    prompt = Prompt(template_text(template), system)
    splits = _splits(math_set, source, split)
    return [_prepare_split(math_set, one, source, prompt, Path(out)) for one in splits]


def prompt_id(name: str, problem: str) -> str:
    """Id of a prompt: set and 128-bit hash of the bare problem, so that it survives another template or row order."""
    return f"{name}:{key_hex(content_hash(name, problem))}"


def _splits(math_set: MathSet, source: str, split: str | None) -> list[str]:
    if split is not None and split not in math_set.splits:
        raise DataError(f"{math_set.name} has no split {split!r}; choose from {', '.join(math_set.splits)}")
    if split is None and len(math_set.splits) > 1 and Path(source).is_file():
        raise DataError(
            f"{math_set.name} has the splits {' and '.join(math_set.splits)} and a file holds one; "
            "say which with --split"
        )
    return list(math_set.splits) if split is None else [split]


def _prepare_split(math_set: MathSet, split: str, source: str, prompt: Prompt, out: Path) -> Prepared:
    stem = math_set.name if len(math_set.splits) == 1 else f"{math_set.name}_{split}"
    path = out / f"{stem}.parquet"
    settings = {
        "format_version": FORMAT_VERSION,
        "name": math_set.name,
        "split": split,
        **prompt.settings,
        "data_source": math_set.data_source(prompt.form),
        "source": sources.describe(math_set, split, source),
    }
    prepared = finished(path, settings)
    if prepared is not None:
        return prepared
    rows = sources.load(math_set, split, source)
    where = math_set.hub if source == sources.HUB else source
    answers, conflicting = _distinct(math_set, rows, where)
    kept = [
        Problem(problem, (answer,), prompt_id(math_set.name, problem))
        for problem, answer in answers.items()
        if problem not in conflicting
    ]
    if not kept:
        raise DataError(f"{where} holds no rows that can be used for {stem}; give another --source")
    counts = {
        "rows_read": len(rows),
        "rows": len(kept),
        "repeated": len(rows) - len(answers),
        "conflicting": len(conflicting),
    }
    dropped = sorted(prompt_id(math_set.name, problem) for problem in conflicting)
    return write(path, settings, prompt, kept, counts, dropped)


def write(
    path: Path,
    settings: Mapping[str, Any],
    prompt: Prompt,
    problems: Sequence[Problem],
    counts: Mapping[str, int],
    dropped: Sequence[str] = (),
    *,
    lists: bool = False,
) -> Prepared:
    """Write a file and its manifest, each in one step.

    Args:
        path: The Parquet file; the folder is made if it is not there.
        settings: What the file depends on; `name`, `split` and `data_source` are written into its rows.
        prompt: How a problem becomes a prompt.
        problems: The problems, all different.
        counts: The numbers of `Prepared`.
        dropped: Prompt ids of problems with contradicting answers.
        lists: Whether gold answers are written as lists.

    Raises:
        OSError: The folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replacing(path) as temporary:
        pq.write_table(_table(settings, prompt, problems, lists), temporary)
    manifest = {
        "settings": dict(settings),
        **counts,
        **({"lists": True} if lists else {}),
        "dropped_for_contradicting_answers": list(dropped),
        "sha256": sources.file_sha256(path),
    }
    # Last: a manifest that is there describes a whole file.
    with _replacing(_manifest_of(path)) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Prepared(path, **counts, reused=False, lists=lists)


def discard(path: Path) -> None:
    """Remove a file and its manifest, the manifest first: without it the file counts for nothing."""
    _manifest_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def finished(path: Path, settings: Mapping[str, Any]) -> Prepared | None:
    """The finished file of these settings, or None if there is none."""
    try:
        manifest = json.loads(_manifest_of(path).read_text(encoding="utf-8"))
        if manifest["settings"] == settings and manifest["sha256"] == sources.file_sha256(path):
            counts = {name: int(manifest[name]) for name in ("rows_read", "rows", "repeated", "conflicting")}
            return Prepared(path, **counts, reused=True, lists=bool(manifest.get("lists")))
    except (OSError, ValueError, KeyError, TypeError):
        # No file, no manifest, or a broken one: prepare again.
        pass
    return None


def _manifest_of(path: Path) -> Path:
    return path.with_suffix(".manifest.json")


def _distinct(math_set: MathSet, rows: sources.Rows, where: str) -> tuple[dict[str, str], set[str]]:
    """Gold answer of every different problem, in the order of their first rows, and the problems with several."""
    layout = choose_layout(math_set.layouts, rows.column_names, where)
    answers: dict[str, str] = {}
    conflicting: set[str] = set()
    read = 0
    columns = rows.select_columns([layout.problem, layout.answer])
    with tqdm(total=len(rows), desc=math_set.name, unit=" rows") as bar:
        for batch in columns.iter(BATCH):
            cells = batch[layout.problem], batch[layout.answer]
            for number, row in enumerate(zip(*cells, strict=True), start=read + 1):
                try:
                    problem, answer = layout.read(*row)
                except ValueError as error:
                    raise DataError(f"row {number} of {where} {error}") from None
                if math_set.integer_answers and re.fullmatch(r"0+\d+", answer):
                    answer = str(int(answer))
                if answers.setdefault(problem, answer) != answer:
                    conflicting.add(problem)
            read += len(cells[0])
            bar.update(len(cells[0]))
    return answers, conflicting


def _table(settings: Mapping[str, Any], prompt: Prompt, problems: Sequence[Problem], lists: bool) -> pa.Table:
    rows = [
        {
            "data_source": settings["data_source"],
            "prompt": prompt.messages(problem.text),
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": problem.answers if lists else problem.answers[0]},
            "extra_info": {
                "index": index,
                "split": settings["split"],
                "prompt_id": problem.prompt_id,
                "set": settings["name"],
                "answer_form": prompt.form,
            },
        }
        for index, problem in enumerate(problems)
    ]
    return pa.Table.from_pylist(rows, schema=schema(lists=lists))


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` once it is written, and goes if it is not."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
