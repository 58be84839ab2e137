# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The recording of the golden run, and the comparison with it."""

import pandas as pd
import pytest
from golden_compare import differences, explain
from golden_run import GROUPS, RECORDED, ROLLOUTS, committed, read_dumps, write_dumps
from record import missing


def test_rollouts_are_what_verl_wrote(tmp_path):
    rollouts = pd.read_parquet(ROLLOUTS)
    write_dumps(rollouts, tmp_path)
    again = read_dumps(tmp_path)
    assert len(again) == RECORDED * 8 * 4
    pd.testing.assert_frame_equal(again, rollouts)


def test_recording_shows_what_the_method_does():
    groups = pd.read_csv(GROUPS)
    assert not missing(groups)
    assert "an all-wrong group" in missing(groups[groups["outcome"] == "mixed"])
    assert "an all-correct group at the cap twice" in missing(groups[groups["step"] < RECORDED])


@pytest.mark.parametrize(
    ("change", "depends_on"),
    [
        ({(2, "erpo/temperature/max"): 1.2}, "erpo/tracker/schedules/band.py"),
        ({(2, "critic/advantages/mean"): 0.5, (2, "actor/grad_norm"): 9.0}, "erpo/trainer/advantage.py"),
        ({(3, "training/rollout_probs_diff_max"): 2e-5, (3, "actor/entropy"): 1.0}, "erpo/trainer/engine.py"),
        ({(4, "actor/pg_loss"): float("nan")}, "the loss"),
        ({(1, "erpo/groups/frac_mixed"): None}, "erpo/tracker/outcome.py"),
    ],
)
def test_first_difference_is_explained(change, depends_on):
    now = {name: value for name, value in {**committed(), **change}.items() if value is not None}
    different = differences(committed(), now)
    assert set(zip(different["step"], different["quantity"], strict=True)) == change.keys()
    assert depends_on in explain(different).splitlines()[1]


def test_rounding_is_no_difference():
    now = {name: value * (1 + 9e-7) if isinstance(value, float) else value for name, value in committed().items()}
    assert not len(differences(committed(), now))
