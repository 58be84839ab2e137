# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Rows of a group log, for runs whose numbers are known."""

import pytest


@pytest.fixture
def group():
    """Makes a row of two responses with 500 tokens."""
    return _group


def _group(step, outcome, temperature, dropped=False):
    return {
        "step": step,
        "key": "00" * 16,
        "temperature": temperature,
        "n": 2,
        "correct": 1,
        "accuracy": 0.5,
        "lengths": [200, 300],
        "truncated": 0,
        "outcome": outcome,
        "revived": outcome == "mixed",
        "dropped": dropped,
        "entropy": 0.1,
        "probs_diff_mean": 0.0,
        "probs_diff_max": 0.0,
    }
