# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Reward of the word problems: verl's own scorer for GSM8K, under the name of this set."""

from typing import Any

from verl.utils.reward_score import gsm8k


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: dict[str, Any] | None = None, **kwargs: Any
) -> dict[str, float]:
    """Scores a response 1 if the number after its ``####`` is the answer, else 0.

    Args:
        data_source: Unused; part of verl's signature.
        solution_str: Decoded response, without the prompt and without special tokens.
        ground_truth: The answer.
        extra_info: Unused; part of verl's signature.
        **kwargs: Unused; verl passes further arguments when it runs a reward model.

    Returns:
        `score` and `acc`, both 0.0 or 1.0.
    """
    right = float(gsm8k.compute_score(solution_str, ground_truth, format_score=0.0))
    return {"score": right, "acc": right}
