# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a user looks at: the terminal of a run and its picture."""

import time

import matplotlib.image
import pytest

from erpo.runs import GroupLog
from erpo.runs.console import follow, write_line
from erpo.runs.plot import plot_runs
from erpo.runs.settings import run_names


def test_terminal_shows_new_lines_in_order_and_no_old_ones(tmp_path, capsys):
    write_line(tmp_path, "step 1/4 | of an earlier start")
    with follow(tmp_path, total_steps=4):
        write_line(tmp_path, "step 2/4 | [brackets] are no markup")
        time.sleep(1.2)
        write_line(tmp_path, "step 3/4 | the last line before the end")
    shown = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert shown == ["step 2/4 | [brackets] are no markup", "step 3/4 | the last line before the end"]


def test_terminal_ends_with_the_run_that_fails(tmp_path):
    with pytest.raises(RuntimeError, match="no such model"), follow(tmp_path, total_steps=4):
        raise RuntimeError("no such model")


def test_picture_has_a_column_for_each_run(tmp_path):
    for name in ("one", "two", "verl"):
        for step in range(1, 4):
            row = {
                "step": step,
                "key": "a" * 32,
                "temperature": 1.0 + 0.1 * step,
                "n": 2,
                "correct": 2,
                "accuracy": 1.0,
                "lengths": [1, 2],
                "truncated": 0,
                "outcome": "all_correct",
                "revived": False,
                "dropped": False,
            }
            GroupLog(tmp_path / name).write(step, [row])
        # verl's own settings have no section of ours.
        (tmp_path / name / "config.yaml").write_text("data: {}" if name == "verl" else "erpo: {method: grpo}")
    assert run_names([tmp_path / name for name in ("one", "two", "verl")]) == ["grpo (one)", "grpo (two)", "verl"]
    plot_runs([tmp_path / "verl"], tmp_path / "verl.png")
    plot_runs([tmp_path / "one"], tmp_path / "one.png")
    plot_runs([tmp_path / "one", tmp_path / "two"], tmp_path / "both.png")
    one, both = (matplotlib.image.imread(tmp_path / f"{name}.png") for name in ("one", "both"))
    assert both.shape[1] == 2 * one.shape[1] and both.shape[0] == one.shape[0]
    # Not an empty sheet: the all-correct colour is in it.
    assert ((both[..., :3] - [0.902, 0.624, 0.0]) ** 2).sum(-1).min() < 0.01
