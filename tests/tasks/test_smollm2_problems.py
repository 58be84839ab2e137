# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The word problems: answers that are right in every wording, as verl's scorer reads them; disjoint pools."""

import random
import re

import pytest

from erpo.tasks.word_problems.problems import LARGEST, OPERATIONS, distinct_problems, draw_problem, make_pools
from erpo.tasks.word_problems.reward import compute_score

POOL = distinct_problems(seed=3, count=500)


def test_every_wording_of_an_answer_computes_right_and_is_scored_right():
    generator = random.Random(0)
    for problem in POOL:
        answer = problem.worked_answer(generator)
        equations = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", answer)
        assert len(equations) == len(problem.steps)
        value = problem.start
        for first, sign, second, result in equations:
            assert int(first) == value
            value = eval(f"{first} {sign if sign != '/' else '//'} {second}")
            assert int(result) == value and 1 <= value <= LARGEST
        assert compute_score("word_problems", answer, problem.answer) == {"score": 1.0, "acc": 1.0}
        assert compute_score("word_problems", answer, str(value + 1)) == {"score": 0.0, "acc": 0.0}
        assert compute_score("word_problems", answer[: answer.index("####")], problem.answer)["acc"] == 0.0


def test_questions_tell_the_numbers_of_the_answer_in_order():
    for problem in POOL:
        told = [int(number) for number in re.findall(r"\d+", problem.question.replace("Only one of every", ""))]
        assert told == [problem.start, *(operand for _, operand in problem.steps)]
        assert "$" not in problem.question and problem.question.endswith("?")


def test_division_comes_out_even():
    for problem in POOL:
        for (kind, operand), value in zip(problem.steps, problem.values, strict=False):
            assert OPERATIONS[kind].sign != "/" or value % operand == 0


def test_language_varies():
    problem = draw_problem(random.Random(1), steps=4)
    assert len({problem.worked_answer(random.Random(seed)) for seed in range(50)}) > 30
    assert {len(problem.steps) for problem in POOL} == {1, 2, 3, 4, 5}
    texts = " ".join(problem.question for problem in POOL)
    for operation in OPERATIONS:
        for event in operation.events:
            words = re.escape(event).replace(r"\$name", "[A-Z][a-z]+").replace(r"\$items", "[a-z]+")
            assert re.search(words.replace(r"\$b", r"\d+"), texts), event


def test_pools_are_disjoint_and_depend_on_no_other_size():
    train, test = make_pools(300, 100)
    assert len({problem.question for problem in train + test}) == 400
    assert make_pools(20, 512) == (train[:20], make_pools(1, 512)[1]) and make_pools(1, 512)[1][:100] == test
    for sizes in ((0, 1), (1, 0)):
        with pytest.raises(ValueError, match="at least 1"):
            make_pools(*sizes)


def test_the_scorer_is_not_fooled_by_a_number_in_the_text():
    assert compute_score("word_problems", "The answer is 42.", "42")["acc"] == 0.0
