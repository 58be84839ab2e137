# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from erpo.tracker import Outcome, classify


@pytest.mark.parametrize(
    ("accuracies", "expected", "outcome"),
    [
        ([1.0] * 8, 8, Outcome.ALL_CORRECT),
        ([0.0] * 8, 8, Outcome.ALL_WRONG),
        ([1.0] * 7 + [0.0], 8, Outcome.MIXED),
        # The standard deviation of these is 1.4e-17, not 0.
        ([0.11] * 5, 5, Outcome.ALL_WRONG),
        ([0.7, 0.7 + 1e-9, 0.7], 3, Outcome.ALL_CORRECT),
        # Above the threshold, but with reward variance.
        ([0.6, 0.9], 2, Outcome.MIXED),
        ([0.5] * 4, 4, Outcome.ALL_CORRECT),
        ([0.4999] * 4, 4, Outcome.ALL_WRONG),
        ([1.0] * 7, 8, Outcome.INCOMPLETE),
        ([], 8, Outcome.INCOMPLETE),
        ([1.0], 1, Outcome.ALL_CORRECT),
        (np.ones(4, dtype=np.float32), 4, Outcome.ALL_CORRECT),
        ([True, False], 2, Outcome.MIXED),
    ],
)
def test_classify(accuracies: list[float], expected: int, outcome: Outcome) -> None:
    assert classify(accuracies, expected) is outcome


def test_standard_deviation_would_misjudge_five_times_011() -> None:
    assert np.std([0.11] * 5) != 0


def test_classify_at_another_threshold() -> None:
    # float32(0.7) is below 0.7.
    assert classify(np.full(3, 0.7, dtype=np.float32), 3, threshold=0.7) is Outcome.ALL_CORRECT
    assert classify([0.5] * 3, 3, threshold=0.7) is Outcome.ALL_WRONG
    assert classify([0.5, 0.6], 2, tolerance=0.2) is Outcome.ALL_CORRECT
