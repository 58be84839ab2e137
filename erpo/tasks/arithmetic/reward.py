# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Reward of the arithmetic task, in verl's custom reward function form.

Configure it with `reward.custom_reward_function.path` (this file) and `name` (`compute_score`). verl loads the file by
its path in every reward worker, so it imports nothing.
"""

from typing import Any

# The longest right response: 6 operations of 5 characters. Equal to MAX_RESPONSE_CHARACTERS of `task.py`.
MAX_RESPONSE_CHARACTERS = 30


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    max_characters: int = MAX_RESPONSE_CHARACTERS,
    **kwargs: Any,
) -> dict[str, float]:
    """Scores a response 1 if the text after its last `=` is exactly the two-digit answer, else 0.

    The intermediate steps are not checked, and there is no reward for the form alone.

    verl decodes a response without its special tokens, so whether it ended by itself cannot be seen here. A response
    that was cut at the length limit is scored wrong by its length: under a limit of at least 31 tokens it has more
    than 30 characters, the length of the longest right one. Two corners remain. Under a smaller limit a cut response
    counts as right where its text happens to be so. Padding tokens that the model itself sampled vanish before
    scoring.

    Args:
        data_source: Unused; part of verl's signature.
        solution_str: Decoded response, without the prompt and without special tokens.
        ground_truth: The two digits of the final value.
        extra_info: Unused; part of verl's signature.
        max_characters: Length of the longest right response.
        **kwargs: Unused; verl passes further arguments when it runs a reward model.

    Returns:
        `score` and `acc`, both 0.0 or 1.0.
    """
    _, equals, answer = solution_str.rpartition("=")
    right = bool(equals) and answer == ground_truth and len(solution_str) <= max_characters
    return {"score": float(right), "acc": float(right)}
