# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts of a prepared set, each once: data sets repeat rows (AIME-2024 of DAPO holds each problem 32 times)."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from erpo.evaluation.config import EvaluationError
from erpo.tracker import TrackerError, check_prompts, key_hex, prompt_key

_COLUMNS = ("data_source", "prompt", "reward_model")


@dataclass(frozen=True)
class Problem:
    """One prompt of a set.

    Attributes:
        key: The tracker's key of the prompt, 32 hexadecimal digits.
        data_source: Name by which verl chooses the scorer.
        messages: The prompt, ``[{role, content}, ...]``.
        ground_truth: What the scorer compares with.
        extra_info: The row's further fields, handed to the scorer.
    """

    key: str
    data_source: str
    messages: list[dict[str, Any]]
    ground_truth: Any
    extra_info: dict[str, Any]


def find_set(entry: str, data_folder: str | Path) -> tuple[str, Path]:
    """Name and file of a set, given as the name of a prepared one or as a path.

    Raises:
        EvaluationError: There is no such file.
    """
    path = Path(entry) if entry.endswith(".parquet") else Path(data_folder) / f"{entry}.parquet"
    if not path.is_file():
        raise EvaluationError(
            f"{path} does not exist; write it with `python -m recipe.erpo.prepare_data {path.stem} --out "
            f"{path.parent}`, or name a Parquet file in verl's row schema."
        )
    return path.stem, path


def load_problems(path: Path) -> list[Problem]:
    """Read the distinct prompts of a Parquet file in verl's row schema, in the order of the file.

    Raises:
        EvaluationError: The file cannot be read, holds no prompts, or contradicts itself.
    """
    try:
        rows = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise EvaluationError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}).") from error
    if not rows:
        raise EvaluationError(f"{path} holds no rows; prepare the set again.")
    for column in _COLUMNS:
        if column not in rows[0]:
            raise EvaluationError(f"{path} has no column {column}; make it in verl's row schema.")
    problems: dict[str, Problem] = {}
    try:
        check_prompts((row["data_source"], row["prompt"], _extra_info(row).get("prompt_id")) for row in rows)
        for row in rows:
            problem = _problem(row)
            first = problems.setdefault(problem.key, problem)
            if first.ground_truth != problem.ground_truth:
                raise TrackerError(
                    f"one prompt has the answers {first.ground_truth!r} and {problem.ground_truth!r}; remove one"
                )
    except TrackerError as error:
        raise EvaluationError(f"{path}: {error}.") from error
    return list(problems.values())


def draw(problems: list[Problem], count: int | None, seed: int) -> list[Problem]:
    """Draw ``count`` prompts without replacement, in their old order; all of them for None."""
    if count is None or count >= len(problems):
        return problems
    chosen = np.random.default_rng(seed).choice(len(problems), size=count, replace=False)
    return [problems[position] for position in sorted(chosen)]


def fingerprint(problems: list[Problem]) -> str:
    """Name prompts, answers and their order, in 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for problem in problems:
        digest.update(f"{problem.key} {problem.data_source} {problem.ground_truth!r}\n".encode())
    return digest.hexdigest()


def _extra_info(row: dict[str, Any]) -> dict[str, Any]:
    return row.get("extra_info") or {}


def _problem(row: dict[str, Any]) -> Problem:
    extra_info = _extra_info(row)
    messages = row["prompt"]
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    return Problem(
        key=key_hex(prompt_key(row["data_source"], row["prompt"], extra_info.get("prompt_id"))),
        data_source=row["data_source"],
        messages=messages,
        ground_truth=row["reward_model"]["ground_truth"],
        extra_info=extra_info,
    )
