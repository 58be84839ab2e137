# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of methods: what its tables say of runs whose numbers are known."""

import sys
import threading

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from benchmarks.comparison import ALL, PARTS, Training, train_all
from benchmarks.comparison_results import (
    accuracy_table,
    at_shares,
    collect,
    interval,
    paired,
    signal_table,
    write_results,
)
from erpo.runs.group_log import GroupLog
from erpo.trainer.checks import check_settings
from recipe.erpo.main_erpo import CONFIG_FOLDER

BUDGET = 4000
# Held-out accuracy at 1,000 and at 4,000 tokens.
RUNS = {("grpo", 0): (0.50, 0.56), ("grpo", 1): (0.52, 0.60), ("erpo", 0): (0.50, 0.59), ("erpo", 1): (0.51, 0.61)}


@pytest.fixture
def runs(tmp_path, group):
    for (method, seed), accuracies in RUNS.items():
        folder = tmp_path / f"{method}-seed{seed}"
        log = GroupLog(folder)
        for step in range(1, 5):
            kind = "mixed" if step < 4 else "all_correct"
            dropped = "mixed" if step == 2 else "all_wrong"
            log.write(step, [group(step, kind, 1.0), group(step, dropped, 1.4, dropped=True)])
        held_out = pd.DataFrame({"step": [1, 4], "tokens": [1000, 4000], "mean_at_8": accuracies, "pass_at_8": 0.8})
        held_out.to_csv(folder / "held_out.csv", index=False)
    (tmp_path / "dapo-seed0").mkdir()  # not finished
    return tmp_path


def test_curves_go_over_tokens(runs):
    checkpoints, _ = collect(runs, BUDGET)
    values = at_shares(checkpoints, BUDGET, "mean_at_8")
    assert values.loc[("grpo", 0)].tolist() == pytest.approx([0.50, 0.52, 0.54, 0.56])


def test_groups_are_counted_by_quarter_of_the_budget(runs):
    _, groups = collect(runs, BUDGET)
    of_run = groups[(groups["method"] == "erpo") & (groups["seed"] == 1)]
    assert of_run["quarter"].tolist() == [1, 2, 3, 4]
    assert of_run["mixed"].tolist() == [1, 2, 1, 0] and of_run["mixed_dropped"].tolist() == [0, 1, 0, 0]
    assert of_run["all_correct"].tolist() == [0, 0, 0, 1]
    assert of_run["dropped"].tolist() == [1] * 4 and of_run["tokens"].tolist() == [1000] * 4
    assert of_run["temperature_mean"].tolist() == pytest.approx([1.2] * 4)


def test_a_mixed_group_that_was_dropped_is_no_signal(runs):
    _, groups = collect(runs, BUDGET)
    row = signal_table(groups, ["erpo"]).iloc[0]
    assert row["mixed groups trained on, per 1,000 tokens"] == "0.75"
    assert (row["mixed"], row["mixed and dropped"], row["dropped"]) == ("50.0%", "12.5%", "50.0%")


def test_differences_are_paired_by_seed(runs):
    checkpoints, _ = collect(runs, BUDGET)
    values = at_shares(checkpoints, BUDGET, "mean_at_8")[4]
    assert paired(values, "erpo", "grpo").tolist() == pytest.approx([0.03, 0.01])
    # Two seeds: t(0.975, 1) = 12.71, standard error of (3, 1) points = 1.
    assert interval(paired(values, "erpo", "grpo")) == "+2.0 ± 12.7"
    assert interval(values["erpo"][:0]) == "-" and interval(pd.Series([0.01])) == "+1.0 (one seed)"
    table = accuracy_table(checkpoints, BUDGET, ["grpo", "erpo"]).set_index("method")
    assert table.loc["erpo", "end - grpo"] == "+2.0 ± 12.7" and table.loc["grpo", "end - grpo"] == "-"
    # The sign ± is for intervals alone: a spread over seeds is named.
    assert "(sd 0." in table.loc["erpo", "at the end"] and "±" not in table.loc["erpo", "at the end"]


class Command:
    """A run that takes a moment."""

    def __init__(self, folder, code):
        self.folder, self._code = folder, code

    def command(self):
        return [sys.executable, "-c", f"print('trained'); import time; time.sleep(0.2); raise SystemExit({self._code})"]


def test_runs_are_trained_at_a_time_and_measured_one_by_one(tmp_path):
    """Two threads that load models at the same time get wrong weights from transformers."""
    runs = [Command(tmp_path / str(number), 0) for number in range(4)]
    measured = []

    def measure(run):
        assert threading.current_thread() is threading.main_thread()
        assert (run.folder / "output.log").read_text() == "trained\n"
        measured.append(run)

    train_all(runs, 2, measure)
    assert sorted(measured, key=runs.index) == runs


def test_a_run_that_fails_ends_the_comparison_and_starts_no_other(tmp_path):
    runs = [Command(tmp_path / str(number), int(number == 1)) for number in range(6)]
    measured = []
    with pytest.raises(RuntimeError, match=r"the run failed; see .*1/output\.log"):
        train_all(runs, 1, measured.append)
    assert measured == runs[:1] and not runs[-1].folder.exists()


def test_a_measurement_that_fails_starts_no_other_run(tmp_path):
    runs = [Command(tmp_path / str(number), 0) for number in range(6)]
    with pytest.raises(ZeroDivisionError):
        train_all(runs, 1, lambda run: 1 // 0)
    assert not runs[-1].folder.exists()


def test_results_leave_out_what_is_not_finished(runs, tmp_path):
    write_results(runs, tmp_path / "out", BUDGET, {"methods": ["grpo", "dapo", "erpo"], "none": ["dapo"]})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "checkpoints.csv",
        "groups.csv",
        "methods.md",
        "methods.png",
    ]
    text = (tmp_path / "out" / "methods.md").read_text()
    # Of eight groups four are all-wrong; three mixed ones in 4,000 tokens.
    assert "dapo" not in text and "| 37.5%" in text and "| 0.75 " in text


def test_no_finished_run_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished run"):
        collect(tmp_path, BUDGET)


@pytest.mark.parametrize("method", ALL)
def test_settings_of_a_training_are_accepted(tmp_path, method):
    overrides = Training(method, 3, tmp_path).command()[3:]
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        config = compose("erpo_trainer", overrides=overrides)
    assert check_settings(config).token_budget == 125_000
    assert config.data.seed == config.actor_rollout_ref.rollout.seed == 3


def test_every_method_is_in_a_part_of_the_results():
    assert {method for part in PARTS.values() for method in part} == set(ALL)
