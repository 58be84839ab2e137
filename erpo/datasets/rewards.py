# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Scores the gold answers of a prepared set with the scorer that training will use.

A gold answer that the scorer rejects makes its prompt all-wrong for ever, silently. And a scorer that accepts
everything would pass such a check, so each row is also scored with a wrong answer.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm
from verl.utils.reward_score import default_compute_score

from erpo.datasets.errors import DataError
from erpo.datasets.templates import ENDINGS, answer_form
from erpo.tracker import is_correct

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


@dataclass(frozen=True)
class Score:
    """One score of one row.

    Attributes:
        prompt_id: The row's prompt, or its number in the file.
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
        """Whether training counts it as correct, with the defaults of `erpo.accuracy`."""
        return is_correct(self.accuracy)


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


def check_rewards(path: str | Path, limit: int | None = None) -> RewardReport:
    """Score the gold answer, and a wrong one, of every row of a prepared file.

    The response is a short text that ends as the row's template demands; where the row does not name it, as its prompt
    asks.

    Args:
        path: A Parquet file that `prepare` wrote, or another one in verl's row schema.
        limit: Rows to score, from the first on; all if None.

    Raises:
        DataError: The file is not there or not such a file, verl has no scorer for its data source, or a scorer fails.
    """
    rows = read_rows(path)
    sources = dict.fromkeys(row["data_source"] for row in rows)
    report = RewardReport(path=Path(path), data_source=", ".join(sources))
    for row in tqdm(rows[:limit], desc=Path(path).name, unit=" rows", disable=limit is not None):
        ending, gold = ENDINGS[_form(row)], str(row["reward_model"]["ground_truth"])
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
        DataError: The file is not there, or not in verl's row schema.
    """
    rows = read_rows(path)
    accepted = {scorer: dict.fromkeys(SPELLINGS, 0) for scorer in SCORERS}
    for row in tqdm(rows, desc=Path(path).name, unit=" rows"):
        for scorer, data_source in SCORERS.items():
            for spelling, ending in SPELLINGS.items():
                gold = str(row["reward_model"]["ground_truth"])
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
            extra_info=row.get("extra_info") or {},
        )
    except NotImplementedError:
        raise DataError(f"verl has no scorer for the data source {data_source!r}; prepare the set again") from None
    # Whatever the scorer of an answer that it was not made for raises.
    except Exception as error:
        raise DataError(
            f"verl's scorer of {data_source!r} fails on {row['name']} with the answer {answer!r} "
            f"({type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}); mend or remove the row"
        ) from error
    values: dict[str, Any] = result if isinstance(result, dict) else {"score": result}
    reward = values["score"]
    accuracy = values.get("acc", reward)
    return Score(row["name"], answer, float(reward), float(accuracy))


def wrong_answer(gold: str) -> str:
    """A wrong answer: the next integer where the gold answer is one, else a number that no gold answer here is."""
    return str(int(gold) + 1) if re.fullmatch(r"-?\d+", gold) else "1234567"


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a file in verl's row schema, each with its prompt id, or its number in the file (from 0), as `name`.

    Raises:
        DataError: The file is not there, is not Parquet, or has a row that cannot be scored.
    """
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise DataError(f"{path} is not there; write it with recipe.erpo.prepare_data") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is no Parquet file ({str(error).splitlines()[0]})") from error
    if not rows:
        raise DataError(f"{path} has no rows; prepare it again")
    for number, row in enumerate(rows):
        if wrong := _what_is_wrong(row):
            raise DataError(f"row {number} of {path}: {wrong}")
        row["name"] = (row.get("extra_info") or {}).get("prompt_id") or f"row {number}"
    return rows


def _what_is_wrong(row: dict[str, Any]) -> str:
    """Why a row cannot be scored, and what to change; empty if it can."""
    if not isinstance(row.get("data_source"), str):
        return f"data_source is {row.get('data_source')!r}; make it the name by which verl chooses the scorer"
    if not isinstance(row.get("reward_model"), dict):
        return "it has no struct reward_model with the ground_truth; make it in verl's row schema"
    gold = row["reward_model"].get("ground_truth")
    if isinstance(gold, bool) or not isinstance(gold, (str, int, float)):
        return f"its ground_truth is {gold!r}; only texts and numbers can be checked"
    if row.get("extra_info") is not None and not isinstance(row["extra_info"], dict):
        return f"extra_info is of type {type(row['extra_info']).__name__}; make it a struct"
    return ""


def _form(row: dict[str, Any]) -> str:
    form = (row.get("extra_info") or {}).get("answer_form")
    if form in ENDINGS:
        return str(form)
    prompt = row.get("prompt")
    messages = prompt if isinstance(prompt, list) else [{"content": prompt}]
    return answer_form("\n".join(str(one.get("content")) for one in messages if isinstance(one, dict)))
