# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Draws problems that differ from each other and from those of other pools."""

from collections.abc import Callable, Collection
from typing import TypeVar

TRAIN_SEED = 1
TEST_SEED = 777

Drawn = TypeVar("Drawn")


def distinct(
    draw: Callable[[int], Drawn], question: Callable[[Drawn], str], count: int, exclude: Collection[str]
) -> list[Drawn]:
    """Draws problems with pairwise different questions; those of a smaller pool are the first of a larger one.

    Args:
        draw: Draws a problem, given the number of those that the pool has.
        question: The question of a problem.
        count: Number of problems.
        exclude: Questions that may not occur.

    Raises:
        ValueError: If `count` is not positive.
    """
    if count < 1:
        raise ValueError(f"a pool needs at least 1 prompt, got {count}")
    seen = set(exclude)
    problems: list[Drawn] = []
    while len(problems) < count:
        problem = draw(len(problems))
        if question(problem) not in seen:
            seen.add(question(problem))
            problems.append(problem)
    return problems
