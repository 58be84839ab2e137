# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Written-out arithmetic chains modulo 100: prompt `63-9*8+3=`, response `-9=54*8=32+3=35`.

A chain starts at a two-digit value and applies k operations from left to right, without precedence. The response
repeats each operator and operand and writes the running value, reduced modulo 100, with two digits. The final answer
is the text after the last `=`.
"""

import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from erpo.tasks.pools import TEST_SEED, TRAIN_SEED, distinct

MODULUS = 100
MIN_OPERATIONS = 2
MAX_OPERATIONS = 6
OPERATION_COUNTS = range(MIN_OPERATIONS, MAX_OPERATIONS + 1)
OPERATORS = "+-*"
OPERANDS = range(2, 10)
ALPHABET = "0123456789" + OPERATORS + "="
# Two digits of start, operator and operand per operation, `=`.
MAX_PROMPT_CHARACTERS = 3 + 2 * MAX_OPERATIONS
# Operator, operand, `=` and two digits per operation.
MAX_RESPONSE_CHARACTERS = 5 * MAX_OPERATIONS
# One token per character, and the end of the sequence.
MAX_RESPONSE_TOKENS = MAX_RESPONSE_CHARACTERS + 1

VALIDATION_SEED = 4242
# Prompts of these pools are kept out of every warm-up. Up to these sizes no pool depends on the size of another.
RESERVED_TRAIN_PROMPTS = 4096
RESERVED_TEST_PROMPTS = 1024
RESERVED_VALIDATION_PROMPTS = 512


@dataclass(frozen=True)
class Problem:
    """One chain.

    Attributes:
        start: Value the chain starts at, 0 to 99.
        steps: Operator and operand of each operation, in order of application.
    """

    start: int
    steps: tuple[tuple[str, int], ...]

    @property
    def operations(self) -> int:
        """Number of operations, k."""
        return len(self.steps)

    @property
    def prompt(self) -> str:
        """The question, 3 + 2k characters."""
        return f"{self.start:02d}" + "".join(f"{operator}{operand}" for operator, operand in self.steps) + "="

    @property
    def response(self) -> str:
        """The worked answer, 5k characters."""
        written = []
        value = self.start
        for operator, operand in self.steps:
            value = _apply(operator, value, operand)
            written.append(f"{operator}{operand}={value:02d}")
        return "".join(written)

    @property
    def answer(self) -> str:
        """The final running value, two digits."""
        return self.response[-2:]


def _apply(operator: str, value: int, operand: int) -> int:
    if operator == "+":
        return (value + operand) % MODULUS
    if operator == "-":
        return (value - operand) % MODULUS
    return (value * operand) % MODULUS


def draw_problem(generator: random.Random, operations: int) -> Problem:
    """Draws a chain uniformly: start, operators and operands are independent."""
    start = generator.randrange(MODULUS)
    steps = tuple((generator.choice(OPERATORS), generator.choice(OPERANDS)) for _ in range(operations))
    return Problem(start, steps)


def distinct_problems(
    seed: int, count: int, exclude: Collection[str] = (), operations: Sequence[int] = OPERATION_COUNTS
) -> list[Problem]:
    """Draws a pool of chains with pairwise different prompts; k cycles through `operations`.

    A smaller pool of the same seed and exclusion is a prefix of a larger one.

    Args:
        seed: Seed of the pool.
        count: Number of chains.
        exclude: Prompts that may not occur in the pool.
        operations: Numbers of operations, at least 2.

    Raises:
        ValueError: If `count` is not positive, or exceeds what distinct short prompts allow.
    """
    # Every fifth prompt has two operations; half of those may be used, so that drawing by rejection stays quick.
    limit = len(OPERATION_COUNTS) * MODULUS * (len(OPERATORS) * len(OPERANDS)) ** MIN_OPERATIONS // 2
    if count + len(exclude) > limit:
        raise ValueError(f"{count} prompts beside {len(exclude)} excluded ones are too many: at most {limit} in total")
    generator = random.Random(seed)
    return distinct(
        lambda drawn: draw_problem(generator, operations[drawn % len(operations)]),
        lambda problem: problem.prompt,
        count,
        exclude,
    )


@dataclass(frozen=True)
class Pools:
    """The fixed prompt pools; no prompt occurs in two of them.

    Attributes:
        train: Prompts for reinforcement learning.
        test: Held-out prompts for evaluation.
        validation: Held-out prompts that decide when the warm-up stops.
    """

    train: list[Problem]
    test: list[Problem]
    validation: list[Problem]

    @property
    def prompts(self) -> frozenset[str]:
        """All prompts of the three pools: what warm-up data may not contain."""
        return frozenset(problem.prompt for pool in (self.train, self.test, self.validation) for problem in pool)


def make_pools(
    train_prompts: int, test_prompts: int, validation_prompts: int, operations: Sequence[int] = OPERATION_COUNTS
) -> Pools:
    """Builds the three disjoint pools.

    The test pool is drawn first, so its prompts depend on no other size; the others do not either, up to the reserved
    sizes: results stay comparable.

    Raises:
        ValueError: If a size is not positive or there are not enough distinct prompts.
    """
    for size in (train_prompts, test_prompts, validation_prompts):
        if size < 1:
            raise ValueError(f"a pool needs at least 1 prompt, got {size}")
    test = distinct_problems(TEST_SEED, max(test_prompts, RESERVED_TEST_PROMPTS), (), operations)
    taken = {problem.prompt for problem in test}
    drawn = max(validation_prompts, RESERVED_VALIDATION_PROMPTS)
    validation = distinct_problems(VALIDATION_SEED, drawn, taken, operations)
    taken.update(problem.prompt for problem in validation)
    train = distinct_problems(TRAIN_SEED, train_prompts, taken, operations)
    return Pools(train=train, test=test[:test_prompts], validation=validation[:validation_prompts])


def reserved_pools(operations: Sequence[int] = OPERATION_COUNTS) -> Pools:
    """The pools at their reserved sizes."""
    return make_pools(RESERVED_TRAIN_PROMPTS, RESERVED_TEST_PROMPTS, RESERVED_VALIDATION_PROMPTS, operations)
