# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The table of the quickstart's runs, and that finished runs are not repeated."""

import pandas as pd
import pytest

from benchmarks import quickstart
from erpo.tasks.arithmetic.base import BASE_FOLDER


@pytest.fixture
def results(tmp_path):
    rows = [
        {
            "base": base,
            "mean_before": 0.5,
            "mean_after": after,
            "pass_before": 0.8,
            "pass_after": 0.79,
            "seconds": 299.6,
        }
        for base, after in (("package", 0.575), ("1", 0.55))
    ]
    pd.DataFrame(rows).to_csv(tmp_path / quickstart.RESULTS_FILE, index=False)
    return tmp_path


def test_what_is_done_is_shown_and_not_repeated(results, monkeypatch, capsys):
    started = []

    def run(seed, out, settings):
        started.append((seed, out, settings))
        return {
            "base": "2",
            **dict.fromkeys(("mean_before", "mean_after", "pass_before", "pass_after"), 0.5),
            "seconds": 1,
        }

    monkeypatch.setattr(quickstart, "run", run)
    monkeypatch.setattr("sys.argv", ["quickstart", "--out", str(results), "--seeds", "1", "2", "--", "trainer.x=1"])
    quickstart.main()
    assert started == [(2, results, ["trainer.x=1"])]
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| package | 50.0% to 57.5% | +7.5 | 80.0% to 79.0% | -1.0 | 300 |"
    assert len(lines) == 5
    quickstart.main()
    assert len(started) == 1


def test_accuracy_is_of_all_reserved_test_problems(monkeypatch):
    monkeypatch.setattr(quickstart, "RESERVED_TEST_PROMPTS", 64)
    mean, passed = quickstart.accuracy(BASE_FOLDER)
    assert 0.35 < mean < 0.7 and mean < passed < 1.0
