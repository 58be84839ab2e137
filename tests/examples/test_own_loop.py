# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The loop of one's own: it learns, and the temperatures are those of the tracker's rule."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_allclose

from erpo.tracker import Outcome


@pytest.fixture(scope="module")
def own_loop(examples):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(examples))
        import own_loop

        return own_loop


def test_it_learns_and_prompts_that_were_all_correct_are_raised(own_loop):
    tracker, rows = own_loop.train("linear", seed=1)
    first, last = rows[0], rows[-1]
    assert first["accuracy"] < 0.2 and last["accuracy"] > 0.6
    assert last["all_correct"] > 0.3 > first["all_correct"]
    for row in rows:
        assert row["all_wrong"] + row["mixed"] + row["all_correct"] == pytest.approx(1)
    history = tracker.frame()
    assert len(history) == 100
    # The rule in one line: a level for every all-correct visit, all of it lost with an all-wrong one.
    assert_allclose(history["temperature"], np.minimum(1 + 0.1 * history["level"], 2.0))
    all_correct = history[history["last_outcome"] == Outcome.ALL_CORRECT]
    assert len(all_correct) > 30 and (all_correct["temperature"] > 1.05).all()
    never = history[history["all_correct_visits"] == 0]
    assert len(never) > 0 and (never["temperature"] == 1).all()


def test_fewer_groups_are_residual_than_in_the_control(own_loop):
    share = {name: own_loop.train(name, steps=400, seed=1)[1][-1]["mixed"] for name in ("linear", "none")}
    assert share["linear"] > share["none"] + 0.05


def test_the_command_prints_shares_and_accuracy_by_step(examples):
    command = [sys.executable, str(examples / "own_loop.py"), "none"]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout.splitlines()
    assert len(lines) == 12
    assert lines[-1].startswith("step 600  accuracy 0.") and lines[-1].endswith("T 1.00")
    assert all("  all_wrong 0." in line and "  all_correct 0." in line for line in lines)
