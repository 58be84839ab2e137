# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""docs/reproduce.md from the data to the table, by the script that goes through it on a CPU, with ``method=grpo``."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest
import scripted_reward
from e2e_runs import RUN_TIMEOUT

from erpo.runs import read_groups
from recipe.erpo.main_erpo import CONFIG_FOLDER

pytestmark = [pytest.mark.ray, pytest.mark.long]

SCRIPT = CONFIG_FOLDER.parent / "recipe" / "erpo" / "run" / "reproduce_cpu.sh"
STEPS = 3
SETTINGS = [
    "data.train_batch_size=8",
    "data.max_response_length=16",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.rollout.n=4",
    # An untrained model solves nothing: its rewards are prescribed, so that there is a gradient.
    f"reward.custom_reward_function.path={scripted_reward.__file__}",
]


@pytest.fixture(scope="module")
def chain(untrained, tmp_path_factory):
    """The folder of the whole chain, and its output."""
    folder = tmp_path_factory.mktemp("chain")
    options = ["--methods", "grpo", "--model", str(untrained / "model"), "--steps", str(STEPS), "--prompts", "16"]
    done = subprocess.run(
        ["bash", str(SCRIPT), *options, str(folder / "out"), *SETTINGS],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * RUN_TIMEOUT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout


def test_prepared_data_are_what_the_run_trained_on(chain):
    out = chain[0] / "out"
    assert len(pd.read_parquet(out / "data" / "dapo_math_17k.parquet")) == 16
    groups = read_groups(out / "grpo")
    assert groups.groupby("step").size().tolist() == [8] * STEPS
    assert groups["key"].nunique() == 16
    assert (out / "grpo" / "report" / "index.html").exists()


def test_evaluation_is_that_of_the_last_checkpoint(chain):
    evaluation = chain[0] / "out" / "grpo" / "eval"
    summary = json.loads((evaluation / "summary.json").read_text())
    assert summary["run"]["method"] == "grpo" and summary["run"]["step"] == STEPS
    samples = pd.read_parquet(evaluation / "samples.parquet")
    assert len(samples) == 16 * 8
    assert summary["sets"]["math_test"]["mean"]["value"] == pytest.approx(samples["correct"].mean())


def test_residual_share_has_every_temperature_and_a_verdict(chain):
    folder, output = chain
    text = next((folder / "out" / "residual_share").glob("*.md")).read_text()
    for temperature in ("1", "1.2", "1.5", "2"):
        assert f"| {temperature} " in text
    assert "0 of 16 prompts are all-correct" in output


def test_the_table_has_the_run_beside_the_public_ones(chain):
    folder, output = chain
    table = (folder / "out" / "table.md").read_text()
    assert table in output
    for row in ("| model      | grpo   |", "| Qwen2.5-3B | dapo   | 50.4 "):
        assert row in table
