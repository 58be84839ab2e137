# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The chain task: right answers, shapes of the texts, disjoint and reproducible pools."""

import random
import re

import pytest

from erpo.tasks.arithmetic.task import (
    MAX_PROMPT_CHARACTERS,
    MAX_RESPONSE_CHARACTERS,
    OPERATION_COUNTS,
    Problem,
    distinct_problems,
    draw_problem,
    make_pools,
    reserved_pools,
)


def running_values(prompt: str) -> list[int]:
    """Evaluates a prompt with Python's own arithmetic: every prefix in brackets, left to right."""
    start, *steps = re.findall(r"\d\d|[-+*]\d", prompt.removesuffix("="))
    expression = str(int(start))
    values = []
    for step in steps:
        expression = f"({expression}){step}"
        values.append(eval(expression) % 100)
    return values


def test_the_documented_example() -> None:
    problem = Problem(63, (("-", 9), ("*", 8), ("+", 3)))
    assert (problem.prompt, problem.response, problem.answer) == ("63-9*8+3=", "-9=54*8=32+3=35", "35")


def test_negative_values_are_reduced_to_0_to_99() -> None:
    assert Problem(3, (("-", 9), ("+", 2))).response == "-9=94+2=96"


def test_responses_agree_with_an_independent_evaluation() -> None:
    generator = random.Random(5)
    for _ in range(200):
        problem = draw_problem(generator, generator.choice(OPERATION_COUNTS))
        values = running_values(problem.prompt)
        steps = re.findall(r"[-+*]\d", problem.prompt)
        written = "".join(f"{step}={value:02d}" for step, value in zip(steps, values, strict=True))
        assert problem.response == written
        assert problem.answer == f"{values[-1]:02d}"


def test_every_kind_of_operation_occurs_and_texts_have_the_stated_lengths() -> None:
    problems = distinct_problems(seed=3, count=500)
    assert {step for problem in problems for step in problem.steps} == {
        (operator, operand) for operator in "+-*" for operand in range(2, 10)
    }
    for index, problem in enumerate(problems):
        assert problem.operations == 2 + index % 5
        assert len(problem.prompt) == 3 + 2 * problem.operations <= MAX_PROMPT_CHARACTERS
        assert len(problem.response) == 5 * problem.operations <= MAX_RESPONSE_CHARACTERS


def test_pools_are_distinct_and_disjoint() -> None:
    pools = make_pools(train_prompts=1000, test_prompts=1000, validation_prompts=1000)
    assert len(pools.prompts) == 3000


def test_pools_exclude_what_they_are_told_to() -> None:
    first = {problem.prompt for problem in distinct_problems(seed=1, count=50)}
    assert first.isdisjoint(problem.prompt for problem in distinct_problems(seed=1, count=50, exclude=first))


def test_pools_are_reproducible_and_no_pool_depends_on_the_size_of_another() -> None:
    assert make_pools(128, 256, 512) == make_pools(128, 256, 512)
    reserved = reserved_pools()
    for sizes in ((1, 1, 1), (128, 256, 512), (4096, 7, 300), (300, 1024, 20)):
        pools = make_pools(*sizes)
        assert pools.train == reserved.train[: sizes[0]]
        assert pools.test == reserved.test[: sizes[1]]
        assert pools.validation == reserved.validation[: sizes[2]]
    # The test pool is the first to be drawn.
    assert make_pools(5000, 1024, 600).test == reserved.test


def test_the_default_train_pool_is_pinned() -> None:
    prompts = [problem.prompt for problem in make_pools(128, 256, 512).train[:3]]
    assert prompts == ["17*3-3=", "63-9*8+3=", "62+8-2*9-5="]


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, -1, 1), (1, 1, 0), (10**6, 1, 1)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"at least 1 prompt|too many"):
        make_pools(*sizes)
