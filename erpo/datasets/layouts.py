# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""How the rows of a source hold problem and answer."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from erpo.datasets.errors import DataError
from erpo.datasets.templates import strip_dapo

# From here on a float has neighbours that are more than 1 apart.
_EXACT = 2**53


@dataclass(frozen=True)
class Layout:
    """Two columns, and how to read them.

    Attributes:
        problem: Column of the problem.
        answer: Column of the answer.
        read_problem: Cell of `problem` -> text without a template; raises ValueError, the rest of a sentence that
            begins with the row.
        read_answer: Likewise, cell of `answer` -> gold answer.
    """

    problem: str
    answer: str
    read_problem: Callable[[Any], str]
    read_answer: Callable[[Any], str]

    def read(self, problem: Any, answer: Any) -> tuple[str, str]:
        """Problem and gold answer of one row.

        Raises:
            ValueError: A cell is empty or not of this layout.
        """
        texts = self.read_problem(problem).strip(), self.read_answer(answer).strip()
        for text, column, what in zip(texts, (self.problem, self.answer), ("problem", "answer"), strict=True):
            if not text:
                raise ValueError(f"has an empty {what} (column {column!r}); fix or remove it")
        return texts


def choose_layout(layouts: Iterable[Layout], columns: Iterable[str], where: str) -> Layout:
    """First layout whose columns are there.

    Args:
        layouts: Those that the set knows.
        columns: Columns of the source.
        where: Name of the source, for the message.

    Raises:
        DataError: None fits.
    """
    present = set(columns)
    layouts = list(layouts)
    for layout in layouts:
        if {layout.problem, layout.answer} <= present:
            return layout
    wanted = " or ".join(f"{layout.problem!r} and {layout.answer!r}" for layout in layouts)
    raise DataError(f"{where} has the columns {', '.join(sorted(present))}; it needs {wanted}")


def cell_text(value: Any) -> str:
    """A cell as text: 27 and 27.0 are the same answer, None is an empty one, and no number has an exponent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        if abs(value) >= _EXACT:
            raise ValueError(f"holds {value!r}, a float, which has lost digits; store texts or integers")
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError(f"holds a value of type {type(value).__name__} where a text or a number should be")
    if isinstance(value, float) and _widened(value):
        raise ValueError(f"holds {value!r}, a float32, which has lost digits; store texts or float64")
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    return checked_text(value) if isinstance(value, str) else str(value)


def checked_text(text: str) -> str:
    """The text, if it can be written.

    Raises:
        ValueError: It holds half of a character, as JSON can.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        broken = ascii(text[error.start])
        raise ValueError(f"holds half of a character ({broken}), which cannot be written; fix or remove it") from None
    return text


def _widened(value: float) -> bool:
    """Whether a number looks like a float32 that became a float64: 0.1 as 0.10000000149011612."""
    with np.errstate(over="ignore"):
        narrow = np.float32(value)
    return float(narrow) == value and str(narrow) != repr(value)


def _prompt(value: Any) -> str:
    """The problem in verl's `prompt`: one user message in DAPO's template, or the bare problem as a string."""
    if isinstance(value, str):
        return strip_dapo(value) or value
    messages = value if isinstance(value, list) else []
    problem = None
    if len(messages) == 1 and isinstance(messages[0], dict) and messages[0].get("role") == "user":
        problem = strip_dapo(cell_text(messages[0].get("content")))
    if problem is None:
        raise ValueError(
            "has a 'prompt' that is not one user message in DAPO's template; give the bare problem as a string"
        )
    return problem


def _ground_truth(value: Any) -> str:
    return cell_text(value.get("ground_truth")) if isinstance(value, dict) else cell_text(value)


def _after_hashes(value: Any) -> str:
    """GSM8K's answer: the number after the last ``####``, without thousands separators."""
    solution = cell_text(value)
    if solution.strip() and "####" not in solution:
        raise ValueError("has an answer without '####'; GSM8K's solutions end in '#### N'")
    return solution.rpartition("####")[2].replace(",", "")


def _last_boxed(value: Any) -> str:
    # Here, because it imports torch: the other sets need no verl.
    from verl.utils.reward_score.math_reward import last_boxed_only_string, remove_boxed

    boxed = last_boxed_only_string(cell_text(value))
    try:
        answer: str = remove_boxed(boxed or "")
    # verl's functions find \fbox too, but unwrap only \boxed.
    except AssertionError:
        raise ValueError("has a solution without \\boxed{answer}; fix or remove it") from None
    return answer


PROBLEM_ANSWER = Layout("problem", "answer", cell_text, cell_text)
QUESTION_ANSWER = Layout("question", "answer", cell_text, cell_text)
GSM8K = Layout("question", "answer", cell_text, _after_hashes)
MATH = Layout("problem", "solution", cell_text, _last_boxed)
VERL = Layout("prompt", "reward_model", _prompt, _ground_truth)
