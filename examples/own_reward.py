# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A reward function and data of your own, in the form that verl's users know.

The data are 40 chains of arithmetic modulo 100 in `own_data.jsonl`, whose columns are not verl's. Prepare them, see
whether the gold answers can be rewarded, and train the arithmetic model on them:

    python -m recipe.erpo.prepare_data own --source examples/own_data.jsonl --problem question --answer result.value \
        --id id --data-source own_arithmetic --template "{problem}" --held-out 8
    python -m recipe.erpo.check_rewards data/own_train.parquet data/own_test.parquet \
        --reward-function examples/own_reward.py
    python -m recipe.erpo.main_erpo experiment=cpu_arithmetic method=erpo data.train_files=data/own_train.parquet \
        data.val_files=data/own_test.parquet reward.custom_reward_function.path=examples/own_reward.py

verl loads this file in every reward worker, so that it imports little.
"""

import re
from collections.abc import Mapping
from typing import Any

# What a response that shows a step earns besides.
FOR_STEPS = 0.1


def compute_score(
    data_source: str, solution_str: str, ground_truth: str, extra_info: Mapping[str, Any] | None = None, **kwargs: Any
) -> dict[str, float]:
    """Score a response: 1 if its last number is the answer, and a little more if it shows a step.

    Args:
        data_source: The rows' `data_source`; a function for several sets can tell them apart by it.
        solution_str: The response, without the prompt and without special tokens.
        ground_truth: The gold answer; a list, where the data give several.
        extra_info: The row's further fields, such as `prompt_id`.
        **kwargs: What else verl hands over, and what stands in `reward.custom_reward_function.reward_kwargs`.

    Returns:
        `score`, which is trained on, and `acc`, by which ERPO tells all-correct groups from others: a group whose
        answers are all right is all-correct, also if only some of its responses show their steps.
    """
    numbers = re.findall(r"\d+", solution_str)
    right = bool(numbers) and int(numbers[-1]) == int(ground_truth)
    shows_steps = solution_str.count("=") > 1
    return {"score": right + FOR_STEPS * (right and shows_steps), "acc": float(right)}
