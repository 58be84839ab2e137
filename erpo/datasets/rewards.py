# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Scores the gold answers of a prepared set with the scorer that training will use.

A gold answer that the scorer rejects makes its prompt all-wrong for ever, silently. And a scorer that accepts
everything would pass such a check, so each row is also scored with a wrong answer.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm
from verl.utils.reward_score import default_compute_score

from erpo.datasets.errors import DataError
from erpo.datasets.templates import ENDINGS

# What default_compute_score calls for these data sources: verl's four scorers of math answers.
SCORERS = {
    "math_dapo": "math_dapo",
    "math_reward": "lighteval/MATH",
    "prime_math": "numina_cn_k12",
    "gsm8k": "openai/gsm8k",
}
# Ways in which models end a right response.
SPELLINGS = {
    "Answer: X": "Answer: {answer}",
    "Answer: $X$": "Answer: ${answer}$",
    "Answer: \\(X\\)": "Answer: \\({answer}\\)",
    "Answer: \\boxed{X}": "Answer: \\boxed{{{answer}}}",
    "Answer: X.": "Answer: {answer}.",
    "\\boxed{X}": "\\boxed{{{answer}}}",
    "#### X": "#### {answer}",
}
_STEPS = "The steps above lead to the result.\n\n"
# erpo.accuracy.threshold's default.
_CORRECT = 0.5


@dataclass(frozen=True)
class Score:
    """One score of one row.

    Attributes:
        prompt_id: The row's prompt.
        answer: The answer that was scored.
        reward: What training gets for it.
        accuracy: The scorer's `acc`, or the reward where it has none, as verl's reward managers do.
    """

    prompt_id: str
    answer: str
    reward: float
    accuracy: float

    @property
    def accepted(self) -> bool:
        """Whether training counts it as correct."""
        return self.accuracy >= _CORRECT


@dataclass
class RewardReport:
    """The check of one file.

    Attributes:
        path: The file.
        data_source: verl's name, which chose the scorer.
        rows: Rows of the file.
        rejected: Gold answers that the scorer rejects.
        fooled: Wrong answers that it accepts.
        rewards: Rewards that occurred for right and for wrong answers.
    """

    path: Path
    data_source: str
    rows: int = 0
    rejected: list[Score] = field(default_factory=list)
    fooled: list[Score] = field(default_factory=list)
    rewards: dict[str, set[float]] = field(default_factory=lambda: {"right": set(), "wrong": set()})

    @property
    def passed(self) -> bool:
        """Whether every gold answer is accepted and every wrong one rejected."""
        return not self.rejected and not self.fooled


def check_rewards(path: str | Path) -> RewardReport:
    """Score the gold answer, and a wrong one, of every row of a prepared file.

    The response is a short text that ends as the row's template demands.

    Args:
        path: A Parquet file that `prepare` wrote.

    Raises:
        DataError: The file is not there, not such a file, or of a data source that verl has no scorer for.
    """
    rows = read_rows(path)
    report = RewardReport(path=Path(path), data_source=rows[0]["data_source"])
    for row in tqdm(rows, desc=Path(path).name, unit=" rows"):
        ending, gold = ENDINGS[row["extra_info"]["answer_form"]], row["reward_model"]["ground_truth"]
        right = score(row, row["data_source"], ending, gold)
        wrong = score(row, row["data_source"], ending, wrong_answer(gold))
        report.rows += 1
        report.rewards["right"].add(right.reward)
        report.rewards["wrong"].add(wrong.reward)
        if not right.accepted:
            report.rejected.append(right)
        if wrong.accepted:
            report.fooled.append(wrong)
    return report


def compare_scorers(path: str | Path) -> dict[str, dict[str, int]]:
    """Count the gold answers that each of verl's scorers accepts in each spelling.

    Returns:
        Scorer -> spelling -> number of rows.

    Raises:
        DataError: The file is not there, or not one that `prepare` wrote.
    """
    rows = read_rows(path)
    accepted = {scorer: dict.fromkeys(SPELLINGS, 0) for scorer in SCORERS}
    for row in tqdm(rows, desc=Path(path).name, unit=" rows"):
        for scorer, data_source in SCORERS.items():
            for spelling, ending in SPELLINGS.items():
                gold = row["reward_model"]["ground_truth"]
                accepted[scorer][spelling] += score(row, data_source, ending, gold).accepted
    return accepted


def score(row: dict[str, Any], data_source: str, ending: str, answer: str) -> Score:
    """Score a response to a row that ends in `answer`, as verl's reward managers do.

    Raises:
        DataError: verl has no scorer for the data source.
    """
    response = _STEPS + ending.format(answer=answer)
    try:
        result = default_compute_score(
            data_source=data_source,
            solution_str=response,
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=row["extra_info"],
        )
    except NotImplementedError:
        raise DataError(f"verl has no scorer for the data source {data_source!r}; prepare the set again") from None
    values: dict[str, Any] = result if isinstance(result, dict) else {"score": result}
    reward = values["score"]
    accuracy = values.get("acc", reward)
    return Score(row["extra_info"]["prompt_id"], answer, float(reward), float(accuracy))


def wrong_answer(gold: str) -> str:
    """A wrong answer: the next integer where the gold answer is one, else a number that no gold answer here is."""
    return str(int(gold) + 1) if re.fullmatch(r"-?\d+", gold) else "1234567"


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a prepared file.

    Raises:
        DataError: The file is not there, is not Parquet, or lacks what `prepare` writes.
    """
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise DataError(f"{path} is not there; write it with recipe.erpo.prepare_data") from None
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is no Parquet file ({str(error).splitlines()[0]})") from error
    if not rows or not _prepared(rows):
        raise DataError(f"{path} has no rows as recipe.erpo.prepare_data writes them; prepare it again")
    return rows


def _prepared(rows: Iterable[dict[str, Any]]) -> bool:
    try:
        return all(
            row["extra_info"]["answer_form"] in ENDINGS
            and row["extra_info"]["prompt_id"]
            and isinstance(row["data_source"], str)
            and isinstance(row["reward_model"]["ground_truth"], str)
            for row in rows
        )
    except (KeyError, TypeError):
        return False
