# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Word problems of one to five steps, and worked answers to them, each in several wordings.

A worked answer computes step by step and ends with ``#### 42``, as those of GSM8K do, so that verl's scorer for that
set judges it. What varies is the language, in question and answer: a model that was taught by them has choices to make
at every sentence, and a temperature has something to break.
"""

import random
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from string import Template

from erpo.tasks.pools import TEST_SEED, TRAIN_SEED, distinct

MIN_STEPS = 1
MAX_STEPS = 5
LARGEST = 200

# Test problems up to this number are kept out of every warm-up, whatever the size of the test set.
RESERVED_TEST_PROMPTS = 512

NAMES = (
    "Ava",
    "Ben",
    "Carla",
    "Dan",
    "Emma",
    "Felix",
    "Grace",
    "Hugo",
    "Iris",
    "Jack",
    "Lena",
    "Marco",
    "Nora",
    "Omar",
)
ITEMS = ("apples", "books", "buttons", "cards", "coins", "marbles", "pencils", "shells", "stamps", "stickers")

STARTS = (
    "$name has $b $items.",
    "At first $name owns $b $items.",
    "In the morning there are $b $items in the box of $name.",
)
QUESTIONS = (
    "How many $items does $name have now?",
    "How many $items are left with $name in the end?",
    "What is the number of $items that $name has now?",
)
OPENINGS = ("", "Let us go step by step. ", "We count the $items. ")
CLOSINGS = ("", "So $name has $c $items. ", "The answer is $c. ")


@dataclass(frozen=True)
class Operation:
    """One kind of step.

    Attributes:
        sign: How it is written between two numbers.
        events: What happens, as the question tells it.
        workings: How the answer computes it.
    """

    sign: str
    events: tuple[str, ...]
    workings: tuple[str, ...]


OPERATIONS = (
    Operation(
        "+",
        ("Then $name buys $b more.", "A friend gives $name another $b.", "Later $name finds $b $items."),
        ("Adding $b gives $a + $b = $c. ", "Now there are $a + $b = $c $items. ", "With $b more, $a + $b = $c. "),
    ),
    Operation(
        "-",
        ("Then $name loses $b of them.", "After that, $name sells $b $items.", "$name gives $b to a friend."),
        ("Taking $b away leaves $a - $b = $c. ", "That leaves $a - $b = $c $items. ", "Minus $b, $a - $b = $c. "),
    ),
    Operation(
        "*",
        ("Over the year the number grows to $b times as many.", "Then $name trades them for $b times as many $items."),
        ("$b times as many is $a * $b = $c. ", "Multiplying by $b gives $a * $b = $c. "),
    ),
    Operation(
        "/",
        ("$name shares them out evenly among $b boxes and keeps one box.", "Only one of every $b is kept."),
        ("One part of $b is $a / $b = $c. ", "Dividing by $b gives $a / $b = $c. "),
    ),
)


@dataclass(frozen=True)
class WordProblem:
    """One problem.

    Attributes:
        name: Person that the problem is about.
        items: What is counted.
        start: First number.
        steps: Index into OPERATIONS and operand of each step, in order.
        question: The problem in words.
    """

    name: str
    items: str
    start: int
    steps: tuple[tuple[int, int], ...]
    question: str

    @property
    def values(self) -> list[int]:
        """The running value, the start included."""
        values = [self.start]
        for kind, operand in self.steps:
            values.append(_apply(OPERATIONS[kind].sign, values[-1], operand))
        return values

    @property
    def answer(self) -> str:
        """The final number."""
        return str(self.values[-1])

    def worked_answer(self, generator: random.Random) -> str:
        """A worked answer in a wording that the generator chooses."""
        values = self.values
        parts = [self._fill(generator.choice(OPENINGS))]
        for (kind, operand), (before, after) in zip(self.steps, pairwise(values), strict=True):
            parts.append(self._fill(generator.choice(OPERATIONS[kind].workings), a=before, b=operand, c=after))
        parts.append(self._fill(generator.choice(CLOSINGS), c=values[-1]))
        return "".join(parts).strip() + f"\n#### {self.answer}"

    def _fill(self, text: str, **numbers: int) -> str:
        return _fill(text, self.name, self.items, **numbers)


def _apply(sign: str, value: int, operand: int) -> int:
    if sign == "+":
        return value + operand
    if sign == "-":
        return value - operand
    return value * operand if sign == "*" else value // operand


def _fill(text: str, name: str, items: str, **numbers: int) -> str:
    return Template(text).substitute(name=name, items=items, **numbers)


def draw_problem(generator: random.Random, steps: int) -> WordProblem:
    """Draws a problem with so many steps; all its numbers are whole, and between 1 and 200."""
    name, items = generator.choice(NAMES), generator.choice(ITEMS)
    start = value = generator.randint(3, 60)
    sentences = [_fill(generator.choice(STARTS), name, items, b=start)]
    drawn: list[tuple[int, int]] = []
    while len(drawn) < steps:
        kind = generator.randrange(len(OPERATIONS))
        sign = OPERATIONS[kind].sign
        operand = generator.randint(2, 40) if sign in "+-" else generator.randint(2, 5)
        after = _apply(sign, value, operand)
        if not 1 <= after <= LARGEST or (sign == "/" and value % operand):
            continue
        drawn.append((kind, operand))
        sentences.append(_fill(generator.choice(OPERATIONS[kind].events), name, items, b=operand))
        value = after
    sentences.append(_fill(generator.choice(QUESTIONS), name, items))
    return WordProblem(name, items, start, tuple(drawn), " ".join(sentences))


def distinct_problems(seed: int, count: int, exclude: Collection[str] = ()) -> list[WordProblem]:
    """Draws problems with pairwise different questions; the number of steps cycles from one to five.

    A smaller pool of the same seed and exclusion is a prefix of a larger one.

    Args:
        seed: Seed of the pool.
        count: Number of problems.
        exclude: Questions that may not occur.

    Raises:
        ValueError: If `count` is not positive.
    """
    generator = random.Random(seed)
    return distinct(
        lambda drawn: draw_problem(generator, MIN_STEPS + drawn % (MAX_STEPS - MIN_STEPS + 1)),
        lambda problem: problem.question,
        count,
        exclude,
    )


def make_pools(train_prompts: int, test_prompts: int) -> tuple[list[WordProblem], list[WordProblem]]:
    """Train and test problems; no question occurs in both, and neither pool depends on the other's size."""
    reserved = distinct_problems(TEST_SEED, max(test_prompts, RESERVED_TEST_PROMPTS))
    train = distinct_problems(TRAIN_SEED, train_prompts, {problem.question for problem in reserved})
    if test_prompts < 1:
        raise ValueError(f"a pool needs at least 1 prompt, got {test_prompts}")
    return train, reserved[:test_prompts]
