# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""docs/reproduce.md from the data to the table, by the script that goes through it on a CPU."""

import json
import os
import subprocess
import sys

import pandas as pd
import pytest

from erpo.runs import read_groups
from recipe.erpo.main_erpo import CONFIG_FOLDER

pytestmark = pytest.mark.ray

SCRIPT = CONFIG_FOLDER.parent / "recipe" / "erpo" / "run" / "reproduce_cpu.sh"
# An untrained model solves nothing: dropping its all-wrong groups would never end.
SETTINGS = [
    "data.train_batch_size=8",
    "data.max_response_length=16",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.rollout.n=4",
    "erpo.groups.drop=[]",
    "algorithm.filter_groups.enable=false",
]


@pytest.fixture(scope="module")
def chain(untrained, tmp_path_factory):
    out = tmp_path_factory.mktemp("chain") / "out"
    options = ["--model", str(untrained / "model"), "--steps", "2", "--prompts", "16"]
    done = subprocess.run(
        ["bash", str(SCRIPT), *options, str(out), *SETTINGS],
        env={**os.environ, "PYTHON": sys.executable},
        cwd=out.parent,
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return out, done.stdout


def test_prepared_data_are_what_both_methods_trained_on(chain):
    out, _ = chain
    prepared = pd.read_parquet(out / "data" / "dapo_math_17k.parquet")
    assert len(prepared) == 16
    for method in ("grpo", "erpo"):
        groups = read_groups(out / method)
        assert groups.groupby("step").size().tolist() == [8, 8]
        assert groups["key"].nunique() == 16
        assert (out / method / "report" / "index.html").exists()


def test_evaluation_of_each_run_is_its_last_checkpoints(chain):
    out, _ = chain
    for method in ("grpo", "erpo"):
        summary = json.loads((out / method / "eval" / "summary.json").read_text())
        assert summary["run"]["method"] == method and summary["run"]["step"] == 2
        samples = pd.read_parquet(out / method / "eval" / "samples.parquet")
        assert len(samples) == 16 * 8
        assert summary["sets"]["math_test"]["mean"]["value"] == pytest.approx(samples["correct"].mean())


def test_residual_share_has_every_temperature_and_a_verdict(chain):
    out, output = chain
    text = next((out / "residual_share").glob("*.md")).read_text()
    for temperature in ("1", "1.2", "1.5", "2"):
        assert f"| {temperature} " in text
    assert "0 of 16 prompts are all-correct" in output


def test_the_table_has_a_row_for_each_method_beside_the_public_ones(chain):
    out, output = chain
    table = (out / "table.md").read_text()
    assert table in output
    for row in ("| model      | grpo   |", "| model      | erpo   |", "| Qwen2.5-3B | dapo   | 50.4 "):
        assert row in table
