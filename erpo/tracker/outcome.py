# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a visit found: the outcome of a group of responses, and batches of outcomes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.errors import TrackerError
from erpo.tracker.keys import KeyArray, key_hex, require_keys


class Outcome(IntEnum):
    """Outcome of one group. ALL_WRONG and ALL_CORRECT are the residual ones: without reward variance."""

    ALL_WRONG = 0
    MIXED = 1
    ALL_CORRECT = 2
    INCOMPLETE = 3


def is_correct(accuracy: float, threshold: float = 0.5, tolerance: float = 1e-6) -> bool:
    """Whether a response is correct: its accuracy reaches the threshold, rounding aside."""
    return accuracy >= threshold - tolerance


def classify(
    accuracies: Sequence[float | None],
    expected: int,
    *,
    threshold: float = 0.5,
    tolerance: float = 1e-6,
    prompt: str = "",
) -> Outcome:
    """Classify a group by the accuracies of its responses.

    A group is uniform if its accuracies differ by no more than `tolerance`; the standard deviation is no test for
    that, for five times 0.11 it is not zero. A uniform group is ALL_CORRECT at or above `threshold`, else ALL_WRONG.
    Any other group is MIXED, also one such as (0.6, 0.9) that lies above the threshold: it has a gradient.

    Args:
        accuracies: Accuracy of each response that was scored.
        expected: Number of responses asked for; with fewer scored ones the group is INCOMPLETE.
        threshold: Accuracy from which a response counts as correct.
        tolerance: Differences up to this one are rounding.
        prompt: Name of the prompt, for errors.

    Raises:
        TrackerError: more accuracies than expected, one that is missing or not finite, or expected < 1.
    """
    if expected < 1:
        raise TrackerError(f"prompt {prompt!r}: a group of {expected} responses was asked for; ask for at least 1")
    if len(accuracies) > expected:
        raise TrackerError(
            f"prompt {prompt!r}: {len(accuracies)} accuracies for a group of {expected} responses; "
            "pass the accuracies of one group"
        )
    for position, accuracy in enumerate(accuracies):
        if accuracy is None or not math.isfinite(accuracy):
            raise TrackerError(
                f"prompt {prompt!r}: the accuracy of response {position} is {accuracy}; "
                "make the reward function return a finite number for every response"
            )
    if len(accuracies) < expected:
        return Outcome.INCOMPLETE
    values = [float(accuracy) for accuracy in accuracies if accuracy is not None]
    if max(values) - min(values) > tolerance:
        return Outcome.MIXED
    return Outcome.ALL_CORRECT if is_correct(min(values), threshold, tolerance) else Outcome.ALL_WRONG


# Of the arrays of `GroupOutcomes` beside the keys, in their order.
_DTYPES = {
    "outcomes": np.int8,
    "accuracies": np.float64,
    "sizes": np.int32,
    "temperatures": np.float64,
    "steps": np.int64,
}


@dataclass(frozen=True, eq=False)
class GroupOutcomes:
    """A batch of observed groups, one entry per group; the arrays are converted to the dtypes given here.

    Accuracy and size of an INCOMPLETE group are not read and not checked.

    Attributes:
        keys: Prompt keys, KEY_DTYPE, shape (g,).
        outcomes: `Outcome` values, int8, shape (g,).
        accuracies: Mean accuracy of the group, in [0, 1], float64, shape (g,).
        sizes: Number of responses n, int32, shape (g,).
        temperatures: Temperature the group was sampled at, float64, shape (g,).
        steps: Training step of the visit, int64, shape (g,).

    Raises:
        TrackerError: shapes differ, or a value is out of its range (the message names the key).
    """

    keys: KeyArray
    outcomes: NDArray[np.int8]
    accuracies: NDArray[np.float64]
    sizes: NDArray[np.int32]
    temperatures: NDArray[np.float64]
    steps: NDArray[np.int64]

    def __post_init__(self) -> None:
        require_keys(self.keys)
        for name in _DTYPES:
            values = np.asarray(getattr(self, name))
            if values.shape != self.keys.shape:
                raise TrackerError(
                    f"{name} has shape {values.shape}, keys have shape {self.keys.shape}; pass one value per group"
                )
            object.__setattr__(self, name, values)
        # Before the conversion, which would wrap 258 to 2.
        self._reject((self.outcomes < Outcome.ALL_WRONG) | (self.outcomes > Outcome.INCOMPLETE), "outcomes", "0 to 3")
        for name, dtype in _DTYPES.items():
            object.__setattr__(self, name, getattr(self, name).astype(dtype, copy=False))
        complete = self.outcomes != Outcome.INCOMPLETE
        in_unit_interval = (self.accuracies >= 0) & (self.accuracies <= 1)
        self._reject(complete & ~in_unit_interval, "accuracies", "in [0, 1]")
        self._reject(complete & (self.sizes < 1), "sizes", "at least 1")
        usable = np.isfinite(self.temperatures) & (self.temperatures > 0)
        self._reject(~usable, "temperatures", "positive and finite")
        self._reject(self.steps < 0, "steps", "0 or more")

    def __len__(self) -> int:
        return self.keys.size

    def take(self, positions: NDArray[np.int64]) -> "GroupOutcomes":
        """Select groups by position, shape (k,)."""
        return GroupOutcomes(*(getattr(self, name)[positions] for name in ("keys", *_DTYPES)))

    def _reject(self, bad: NDArray[np.bool_], name: str, wanted: str) -> None:
        if bad.any():
            first = int(bad.argmax())
            raise TrackerError(
                f"prompt {key_hex(self.keys[first])}: {name} holds {getattr(self, name)[first]}; it must be {wanted}"
            )
