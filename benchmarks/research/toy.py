# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The research loop's toys: arithmetic chains over 16 tokens, alone or beside a tail of tokens that are never right.

The tail gives a small model what a real vocabulary has: many tokens of small probability, whose mass grows with the
temperature. One of them anywhere makes a response wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from erpo.tasks.arithmetic.task import ALPHABET, MAX_PROMPT_CHARACTERS, MAX_RESPONSE_TOKENS, Problem

_INDEX = {character: token for token, character in enumerate(ALPHABET)}
END = len(ALPHABET)
PAD = END + 1
REAL_TOKENS = PAD + 1
PROMPT_LENGTH = MAX_PROMPT_CHARACTERS
RESPONSE_LENGTH = MAX_RESPONSE_TOKENS

_TAIL_EXPONENT = 0.7
# Tail mass at T = 1 of a warmed-up model, by the column of a response's token in `+7=41`: results are less certain than
# what is copied. Fitted to the mass that SmolLM2-135M-Instruct puts outside its 20 most probable tokens.
_MASS_COPIED, _MASS_COMPUTED = 0.0017, 0.0056
_COLUMNS = 5


@dataclass(frozen=True)
class Toy:
    """A vocabulary.

    Attributes:
        name: Name in tables and of the base models' folders.
        tail: Tokens that are never right.
    """

    name: str
    tail: int

    @property
    def vocabulary(self) -> int:
        """All tokens."""
        return REAL_TOKENS + self.tail

    def tail_distributions(self) -> torch.Tensor:
        """What a warm-up puts into the tail beside each right token, (real tokens, vocabulary); rows sum to 1."""
        generator = np.random.default_rng(5)
        table = np.zeros((REAL_TOKENS, self.vocabulary), dtype=np.float32)
        for right in range(REAL_TOKENS):
            table[right, REAL_TOKENS:] = _tail_shares(self.tail)[generator.permutation(self.tail)]
        return torch.from_numpy(table)


PLAIN = Toy("plain", tail=0)
TAIL = Toy("tail", tail=1008)


def _tail_shares(tokens: int) -> NDArray[np.float64]:
    shares = np.arange(1, tokens + 1) ** -_TAIL_EXPONENT
    return shares / shares.sum()


def warmup_tail_mass(responses: torch.Tensor) -> torch.Tensor:
    """Tail mass that a warm-up teaches at each position of responses (R, L), shape (R, L)."""
    computed = (torch.arange(responses.shape[1]) % _COLUMNS >= 3) & (responses != END)
    return torch.where(computed, _MASS_COMPUTED, _MASS_COPIED)


def unbroken_probability(temperatures: NDArray[np.float64], lengths: NDArray[np.int64]) -> NDArray[np.float64]:
    """Chance that no token of the tail is sampled, if the right token has all the other mass at T = 1.

    Args:
        temperatures: Sampling temperatures, (R,).
        lengths: Tokens of the responses, the end included, (R,).

    Returns:
        Probabilities, (R,).
    """
    unique, inverse = np.unique(temperatures, return_inverse=True)
    copied, computed = (np.log1p(-_mass_at(mass, unique))[inverse] for mass in (_MASS_COPIED, _MASS_COMPUTED))
    of_computed = lengths // _COLUMNS * 2
    return np.exp((lengths - of_computed) * copied + of_computed * computed)


def _mass_at(mass: float, temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = 1 / temperatures[:, None]
    tail = ((mass * _tail_shares(TAIL.tail)) ** powers).sum(1)
    return tail / (tail + (1 - mass) ** powers[:, 0])


def encode_prompts(problems: Sequence[Problem]) -> torch.Tensor:
    """Left-padded prompts, (P, PROMPT_LENGTH)."""
    rows = np.full((len(problems), PROMPT_LENGTH), PAD, dtype=np.int64)
    for row, problem in zip(rows, problems, strict=True):
        row[PROMPT_LENGTH - len(problem.prompt) :] = [_INDEX[character] for character in problem.prompt]
    return torch.from_numpy(rows)


def encode_responses(problems: Sequence[Problem]) -> torch.Tensor:
    """Worked answers and their ends, right-padded, (P, RESPONSE_LENGTH)."""
    rows = np.full((len(problems), RESPONSE_LENGTH), PAD, dtype=np.int64)
    for row, problem in zip(rows, problems, strict=True):
        row[: len(problem.response) + 1] = [*(_INDEX[character] for character in problem.response), END]
    return torch.from_numpy(rows)


def score(
    responses: torch.Tensor, lengths: torch.Tensor, problems: Sequence[Problem]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What is right, and what the tail broke.

    Args:
        responses: Sampled tokens, (R, RESPONSE_LENGTH).
        lengths: Their lengths, the end included, (R,).
        problems: The problem of each row, R.

    Returns:
        Accuracies, 0 or 1: the response ended, holds no token of the tail, and its last three tokens are the answer
        behind a `=`, (R,); whether it holds a token of the tail, (R,).
    """
    tokens, ends = responses.numpy(), lengths.numpy()
    inside = np.arange(tokens.shape[1]) < ends[:, None]
    broken = np.any((tokens >= REAL_TOKENS) & inside, axis=1)
    right = np.array([[_INDEX["="], *(_INDEX[digit] for digit in problem.answer), END] for problem in problems])
    last = np.take_along_axis(tokens, np.maximum(ends[:, None] - 4 + np.arange(4), 0), axis=1)
    return np.asarray((last == right).all(1) & (ends >= 4) & ~broken, dtype=np.float64), np.asarray(broken)
