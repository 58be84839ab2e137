# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Reward of rows with several gold answers, any of which is right, in verl's custom reward function form.

verl's scorers of math compare with one text: of a list, `math_dapo` fails and the others call every response wrong. Set
`reward.custom_reward_function.path=pkg://erpo.datasets.any_answer` to have the list's answers tried one by one.
"""

from collections.abc import Mapping
from typing import Any

PATH = "pkg://erpo.datasets.any_answer"
# A ground truth of these is no answer: test cases, or a struct that holds its own list.
_NO_ANSWERS = ("codecontests", "apps", "codeforces", "taco", "searchR1_")


def takes_lists(data_source: str) -> bool:
    """Whether a list of gold answers can mean "any of these" for verl's scorer of a data source."""
    return not data_source.startswith(_NO_ANSWERS)


def compute_score(
    data_source: str, solution_str: str, ground_truth: Any, extra_info: Mapping[str, Any] | None = None, **kwargs: Any
) -> float | dict[str, Any]:
    """Score a response against each gold answer with verl's scorer of the data source; the highest score counts.

    Args:
        data_source: Name by which verl chooses its scorer.
        solution_str: Decoded response.
        ground_truth: The gold answers, or one as a text.
        extra_info: The row's further fields.
        **kwargs: What else verl's reward manager hands over.

    Returns:
        What verl's scorer returns for the answer with the highest score, the first of them.

    Raises:
        ValueError: The list is empty, or the ground truth is something else than answers.
        NotImplementedError: verl has no scorer for the data source.
    """
    # Here, because `prepare_data` reads this module's names and needs no verl.
    from verl.utils.reward_score import default_compute_score

    if not takes_lists(data_source) or isinstance(ground_truth, Mapping):
        raise ValueError(
            f"the ground truth of {data_source!r} is neither an answer nor a list of answers; "
            "use verl's own scorer for this set"
        )
    answers = [ground_truth] if isinstance(ground_truth, (str, int, float)) else list(ground_truth)
    if not answers:
        raise ValueError("the row has an empty list of gold answers; give it one, or remove the row")
    results = [
        default_compute_score(data_source, solution_str, str(answer), extra_info, **kwargs) for answer in answers
    ]
    best: float | dict[str, Any] = max(results, key=_reward)
    return best


def _reward(result: float | dict[str, Any]) -> float:
    return float(result["score"] if isinstance(result, dict) else result)
