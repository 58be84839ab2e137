# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Scores the gold answers of a prepared set with the scorer that training will use.

A gold answer that the scorer rejects makes its prompt all-wrong for ever, silently. And a scorer that accepts
everything would pass such a check, so each row is also scored with a wrong answer.
"""

import asyncio
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm
from verl.utils.import_utils import load_extern_object
from verl.utils.reward_score import default_compute_score

from erpo.datasets.any_answer import PATH as ANY_ANSWER
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
# A reward function in verl's form.
RewardFunction: TypeAlias = Callable[..., Any]


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
        answers: Their gold answers, of which a row with a list has several.
        rejected: Gold answers that the scorer rejects.
        fooled: Wrong answers that it accepts.
        rewards: Rewards that occurred for right and for wrong answers.
    """

    path: Path
    data_source: str
    rows: int = 0
    answers: int = 0
    rejected: list[Score] = field(default_factory=list)
    fooled: list[Score] = field(default_factory=list)
    rewards: dict[str, set[float]] = field(default_factory=lambda: {"right": set(), "wrong": set()})

    @property
    def passed(self) -> bool:
        """Whether every gold answer is accepted and every wrong one rejected."""
        return not self.rejected and not self.fooled


def load_reward_function(path: str, name: str) -> RewardFunction:
    """A reward function in verl's form, as verl loads that of `reward.custom_reward_function`.

    Args:
        path: Python file, or ``pkg://module``.
        name: Its name there.

    Raises:
        DataError: It cannot be loaded.
    """
    try:
        function: RewardFunction = load_extern_object(path, name)
    # What the module raises, wrapped by verl where it is a file.
    except Exception as error:
        raise DataError(
            f"the reward function {name} of {path} cannot be loaded ({_one_line(error.__cause__ or error)}); fix it, "
            "its path or its name"
        ) from error
    if not callable(function):
        raise DataError(f"{name} of {path} is of type {type(function).__name__}; name a function")
    return function


def check_rewards(
    path: str | Path, limit: int | None = None, reward_function: RewardFunction | None = None
) -> RewardReport:
    """Score every gold answer, and a wrong one, of every row of a prepared file.

    The response is a short text that ends as the row's template demands; where the row does not name it, as its prompt
    asks.

    Args:
        path: A Parquet file that `prepare` wrote, or another one in verl's row schema.
        limit: Rows to score, from the first on; all if None.
        reward_function: What a run with `reward.custom_reward_function` scores with; verl's scorers if None.

    Raises:
        DataError: The file is not there or not such a file, verl has no scorer for its data source, or a scorer fails.
    """
    rows = read_rows(path, lists=reward_function is not None)
    sources = dict.fromkeys(row["data_source"] for row in rows)
    report = RewardReport(path=Path(path), data_source=", ".join(sources))
    for row in tqdm(rows[:limit], desc=Path(path).name, unit=" rows", disable=limit is not None):
        ending, golds = ENDINGS[_form(row)], gold_answers(row)
        right = [score(row, row["data_source"], ending, gold, reward_function) for gold in golds]
        wrong = score(row, row["data_source"], ending, wrong_answer(*golds), reward_function)
        report.rows += 1
        report.answers += len(golds)
        report.rewards["right"].update(one.reward for one in right)
        report.rewards["wrong"].add(wrong.reward)
        report.rejected += [one for one in right if not one.accepted]
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


def score(
    row: dict[str, Any], data_source: str, ending: str, answer: str, reward_function: RewardFunction | None = None
) -> Score:
    """Score a response to a row that ends in `answer`, as verl's reward managers do.

    Raises:
        DataError: verl has no scorer for the data source, or the scorer fails.
    """
    response = _STEPS + ending.format(answer=answer)
    try:
        result = (reward_function or default_compute_score)(
            data_source=data_source,
            solution_str=response,
            ground_truth=row["reward_model"]["ground_truth"],
            extra_info=row.get("extra_info") or {},
        )
        if inspect.isawaitable(result):
            result = asyncio.run(_awaited(result))
        values: dict[str, Any] = result if isinstance(result, dict) else {"score": result}
        reward = float(values["score"])
        accuracy = float(values.get("acc", reward))
        if not math.isfinite(reward) or not math.isfinite(accuracy):
            raise ValueError(f"its reward is {reward}, its accuracy {accuracy}")
        return Score(row["name"], answer, reward, accuracy)
    except NotImplementedError:
        raise DataError(
            f"verl has no scorer for the data source {data_source!r}; prepare the set again, or name a reward function "
            "of your own"
        ) from None
    # Whatever the scorer of an answer that it was not made for raises.
    except Exception as error:
        scorer = f"verl's scorer of {data_source!r}" if reward_function is None else "the reward function"
        advice = "fix or remove the row" if reward_function is None else "fix one of them"
        raise DataError(
            f"{scorer} fails on {row['name']} with the answer {answer!r} ({_one_line(error)}); {advice}"
        ) from error


def gold_answers(row: dict[str, Any]) -> list[str]:
    """Gold answers of a row, any of which is right."""
    gold = row["reward_model"]["ground_truth"]
    return [str(one) for one in (gold if isinstance(gold, list) else [gold])]


def wrong_answer(*golds: str) -> str:
    """A wrong answer: the next integer where the first gold answer is one, else a number that no gold answer is."""
    # Python reads integers of up to 4,300 digits.
    wrong = int(golds[0]) + 1 if re.fullmatch(r"-?\d{1,4000}", golds[0]) else 1234567
    while len(golds) > 1 and str(wrong) in golds:
        wrong += 1
    return str(wrong)


def read_rows(path: str | Path, *, lists: bool = False) -> list[dict[str, Any]]:
    """Rows of a file in verl's row schema, each with its prompt id, or its number in the file (from 0), as `name`.

    Args:
        path: The file.
        lists: Whether what scores them takes lists of gold answers, which verl's scorers do not.

    Raises:
        DataError: The file is not there, is not Parquet, or has a row that cannot be scored.
    """
    try:
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    except FileNotFoundError:
        raise DataError(f"{path} is not there; write it with recipe.erpo.prepare_data") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path} is not a Parquet file ({str(error).splitlines()[0]})") from error
    if not rows:
        raise DataError(f"{path} has no rows; prepare it again")
    for number, row in enumerate(rows):
        if wrong := _what_is_wrong(row, lists):
            raise DataError(f"row {number} of {path}: {wrong}")
        row["name"] = (row.get("extra_info") or {}).get("prompt_id") or f"row {number}"
    return rows


def _what_is_wrong(row: dict[str, Any], lists: bool) -> str:
    """Why a row cannot be scored, and what to change; empty if it can."""
    if not isinstance(row.get("data_source"), str):
        return f"data_source is {row.get('data_source')!r}; make it the name by which verl chooses the scorer"
    if not isinstance(row.get("reward_model"), dict):
        return "it has no struct reward_model with the ground_truth; make it in verl's row schema"
    gold = row["reward_model"].get("ground_truth")
    if isinstance(gold, list) and not lists:
        return (
            "its ground_truth is a list, and verl's scorers compare with one text; set "
            f"reward.custom_reward_function.path={ANY_ANSWER}, and check with --reward-function {ANY_ANSWER}"
        )
    golds: Sequence[Any] = gold if isinstance(gold, list) else [gold]
    if not golds or any(isinstance(one, bool) or not isinstance(one, (str, int, float)) for one in golds):
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


async def _awaited(result: Any) -> Any:
    return await result


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error) or 'no message').splitlines()[0]}"
