# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a validation during training says of each set: mean@k with its interval over prompts, and pass@k.

verl reports mean@k without an interval, and in place of pass@k the best of k draws with replacement, which is lower.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from erpo.evaluation.estimators import bootstrap, pass_at_k
from erpo.trainer.config import AccuracyConfig

PREFIX = "erpo/val"


def validation_metrics(
    sources: Sequence[str],
    uids: Sequence[str],
    results: Mapping[str, Sequence[Any]],
    expected: Mapping[tuple[str, str], int],
    accuracy: AccuracyConfig,
) -> dict[str, float]:
    """Estimates over the prompts of each set.

    Args:
        sources: Set of each response, (R,).
        uids: Prompt of each response, (R,).
        results: Values of the reward function by name, ``reward`` among them, (R,) each; None where one has no value.
        expected: Responses that were asked for, by set and prompt. One that is missing is wrong.
        accuracy: When a response is correct. One that could not be scored is wrong.

    Returns:
        By set ``mean@k``, the ends ``mean_low`` and ``mean_high`` of its 95 % interval (bootstrap over prompts), and
        ``pass@k``; k is the number of responses to each prompt, the smallest where they differ. A set of which no
        response could be scored has none of them.
    """
    correct: Counter[tuple[str, str]] = Counter()
    scored = set()
    for row, prompt in enumerate(zip(map(str, sources), map(str, uids), strict=True)):
        values = {name: column[row] for name, column in results.items() if column[row] is not None}
        value, problem = accuracy.measure(values.pop("reward", None), values)
        if problem is None and value is not None:
            scored.add(prompt[0])
            correct[prompt] += accuracy.is_correct(value)
    prompts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for prompt, n in expected.items():
        if prompt[0] in scored:
            prompts[prompt[0]].append((correct[prompt], n))
    metrics: dict[str, float] = {}
    for source, counts in prompts.items():
        k = min(n for _, n in counts)
        mean = bootstrap(np.array([right / n for right, n in counts]), seed=0)
        passed = [pass_at_k(np.array([right]), n, k)[0] for right, n in counts]
        metrics |= {
            f"{PREFIX}/{source}/mean@{k}": mean.value,
            f"{PREFIX}/{source}/mean_low": mean.low,
            f"{PREFIX}/{source}/mean_high": mean.high,
            f"{PREFIX}/{source}/pass@{k}": float(np.mean(passed)),
        }
    return metrics
