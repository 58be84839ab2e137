# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Estimators over the responses of a set; P prompts, n responses each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 10_000
_BLOCK = 1 << 24


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts.

    Attributes:
        value: The mean.
        low: Lower end of its interval.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def pass_at_k(correct: NDArray[np.int64], n: int, k: int) -> NDArray[np.float64]:
    """Probability that at least one of k responses is correct, of each prompt: 1 - C(n - c, k) / C(n, k).

    It is the mean over all subsets of k of the n responses, hence without bias. Written as a product, in which nothing
    overflows.

    Args:
        correct: Correct responses c of each prompt, shape (P,).
        n: Responses of each prompt.
        k: Responses that are looked at, 1 to n.

    Returns:
        Shape (P,).
    """
    if not 1 <= k <= n:
        raise ValueError(f"pass@{k} of {n} responses; k must lie between 1 and n")
    wrong = n - np.asarray(correct, dtype=np.float64)
    # C(w, k) / C(n, k) = prod_i (w - i) / (n - i); with w < k one factor is 0, the later ones negative.
    steps = np.arange(k)
    factors = np.maximum(wrong[:, None] - steps, 0.0) / (n - steps)
    return 1.0 - factors.prod(axis=1)


def powers_up_to(n: int) -> list[int]:
    """1, 2, 4 ... up to n, and n itself."""
    return sorted({2**power for power in range(n.bit_length())} | {n})


def majority(answers: Sequence[str | None], correct: Sequence[bool]) -> float:
    """Probability that the most frequent answer of one prompt is correct; ties are broken by an even chance.

    Correct responses vote for one answer, the right one, however they spell it: the scorer called them equal. A wrong
    response votes for its own answer, and has no vote without one. Without any vote the prompt is wrong.

    Args:
        answers: Extracted answers, shape (n,).
        correct: Whether each is correct, shape (n,).
    """
    right = sum(correct)
    wrong = Counter(answer for answer, is_right in zip(answers, correct, strict=True) if not is_right and answer)
    most = max(wrong.values(), default=0)
    if right != most:
        return float(right > most)
    return 1 / (1 + sum(votes == most for votes in wrong.values())) if right else 0.0


def bootstrap(values: NDArray[np.float64], seed: int) -> Estimate:
    """Mean over prompts, with its percentile interval over resampled prompts.

    The interval says how much the mean depends on which problems are in the set.

    Args:
        values: One value per prompt, shape (P,).
        seed: Seed of the resampling.
    """
    values = np.asarray(values, dtype=np.float64)
    mean = float(values.mean())
    if len(values) == 1:
        return Estimate(mean, mean, mean)
    interval = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=RESAMPLES,
        # All resamples of a training set at once would not fit into memory.
        batch=max(1, _BLOCK // len(values)),
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Estimate(mean, float(interval.low), float(interval.high))


def wilson(count: int, total: int) -> Estimate:
    """Share ``count / total`` with Wilson's score interval, which stays sensible at shares of 0 and 1."""
    if total < 1:
        raise ValueError("a share of 0 has no interval")
    interval = stats.binomtest(count, total).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(count / total, float(interval.low), float(interval.high))
