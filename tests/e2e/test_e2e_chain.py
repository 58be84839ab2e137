# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""docs/reproduce.md from the data to the table, by the script that goes through it on a CPU, with ``method=grpo``.

What the script trains is then trained by verl's own ``main_ppo`` on the recorded rollouts: plain GRPO through our entry
point must be verl's, column by column, setting by setting, metric by metric.
"""

import json
import os
import shlex
import subprocess
import sys

import pandas as pd
import pytest
import scripted_reward
import torch
from e2e_runs import RUN_TIMEOUT, start
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from erpo.runs import read_groups, read_metrics
from recipe.erpo.main_erpo import CONFIG_FOLDER

pytestmark = pytest.mark.ray

SCRIPT = CONFIG_FOLDER.parent / "recipe" / "erpo" / "run" / "reproduce_cpu.sh"
STEPS = 3
SETTINGS = [
    "data.train_batch_size=8",
    "data.max_response_length=16",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "actor_rollout_ref.rollout.n=4",
    # An untrained model solves nothing: its rewards are prescribed, so that there is a gradient.
    f"reward.custom_reward_function.path={scripted_reward.__file__}",
    "trainer.logger=[file]",
    "skip.rollout_tq.enable=true",
    f"skip.rollout_tq.steps={list(range(1, STEPS + 1))}",
]
VOLATILE = ("timing_s/", "timing_per_token_ms/", "perf/", "actor/perf/", "training/off_policy/trajectory_staleness")


@pytest.fixture(scope="module")
def chain(untrained, tmp_path_factory):
    """The folder of the whole chain, and its output."""
    folder = tmp_path_factory.mktemp("chain")
    options = ["--methods", "grpo", "--model", str(untrained / "model"), "--steps", str(STEPS), "--prompts", "16"]
    settings = [*SETTINGS, f"skip.rollout_tq.dump_dir={folder}/rollouts"]
    done = subprocess.run(
        ["bash", str(SCRIPT), *options, str(folder / "out"), *settings],
        env={**os.environ, "PYTHON": sys.executable, "VERL_FILE_LOGGER_PATH": str(folder / "ours.jsonl")},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=2 * RUN_TIMEOUT,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder, done.stdout


@pytest.fixture(scope="module")
def both(chain):
    """What verl logs of the recorded rollouts, and what our run logged, by step."""
    folder, output = chain
    (command,) = (line for line in output.splitlines() if "recipe.erpo.main_erpo" in line)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        plain = compose("erpo_trainer", overrides=shlex.split(command)[4:])
    OmegaConf.set_struct(plain, False)
    OmegaConf.resolve(plain)
    del plain.erpo
    plain.trainer.default_local_dir = str(folder / "plain")
    plain.trainer.save_freq = -1
    OmegaConf.save(plain, folder / "plain.yaml")
    on_cpu = {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    start(
        folder / "verl.log",
        "verl.trainer.main_ppo",
        ["--config-path", str(folder), "--config-name", "plain"],
        VERL_FILE_LOGGER_PATH=str(folder / "verl.jsonl"),
        VLLM_CPU_KVCACHE_SPACE="1",
        **on_cpu,
    ).wait()
    logs = [(folder / name).read_text().splitlines() for name in ("verl.jsonl", "ours.jsonl")]
    return [{line["step"]: line["data"] for line in map(json.loads, lines)} for lines in logs]


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


def test_metrics_are_verls_for_the_same_rollouts(both):
    verl, ours = both
    assert verl.keys() == ours.keys() == set(range(1, STEPS + 1))
    for step, expected in verl.items():
        expected = {name: value for name, value in expected.items() if not name.startswith(VOLATILE)}
        got = {name: value for name, value in ours[step].items() if not name.startswith((*VOLATILE, "erpo/"))}
        assert got.keys() == expected.keys()
        assert expected["actor/grad_norm"] > 0
        # The first step starts from the same weights; afterwards gradient sums may round differently. rollout_corr/*
        # compares log-probs that agree up to rounding: what is left of a product over a response's 16 tokens, less 1.
        for name, value in expected.items():
            noise = 1e-5 if name.startswith("rollout_corr/") else 1e-6
            assert got[name] == pytest.approx(value, rel=1e-4, abs=noise), (step, name)


def test_trajectories_have_no_extra_column(chain):
    dumps = sorted((chain[0] / "rollouts").rglob("tq_batch.pt"))
    assert len(dumps) == STEPS
    for dump in dumps:
        columns = set(torch.load(dump, weights_only=False)["tensordict"].keys())
        assert not {name for name in columns if "temperature" in name}


def test_plain_grpo_is_observed_all_the_same(chain):
    run = chain[0] / "out" / "grpo"
    groups = read_groups(run)
    assert (groups["temperature"] == 1.0).all() and not groups["dropped"].any()
    observed = groups.groupby("step")["outcome"].agg(lambda outcomes: (outcomes == "all_correct").mean())
    metrics = read_metrics(run)
    assert metrics["erpo/groups/frac_all_correct"].tolist() == pytest.approx(observed.tolist())
    assert observed.between(0.1, 0.9).all()
    assert (metrics["erpo/signal/frac_responses_with_gradient_ra"] == 0).all()
