# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Plain GRPO through our entry point is verl's: its own ``main_ppo`` trains on the recorded rollouts of our run.

Column by column, setting by setting, metric by metric.
"""

import json

import pytest
import torch
from e2e_runs import small_run, start
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from erpo.runs import read_groups, read_metrics
from recipe.erpo.main_erpo import CONFIG_FOLDER

pytestmark = pytest.mark.ray

STEPS = 3
VOLATILE = ("timing_s/", "timing_per_token_ms/", "perf/", "actor/perf/", "training/off_policy/trajectory_staleness")


@pytest.fixture(scope="module")
def both(untrained, tmp_path_factory):
    """Folder of both runs, ``run`` being ours and ``rollouts`` what both trained on."""
    folder = tmp_path_factory.mktemp("plain_grpo")
    settings = small_run(
        untrained,
        folder / "run",
        "method=grpo",
        "trainer.save_freq=-1",
        "trainer.logger=[file]",
        f"trainer.total_training_steps={STEPS}",
        "skip.rollout_tq.enable=true",
        f"skip.rollout_tq.steps={list(range(1, STEPS + 1))}",
        f"skip.rollout_tq.dump_dir={folder}/rollouts",
    )
    start(
        folder / "ours.log", "recipe.erpo.main_erpo", settings, VERL_FILE_LOGGER_PATH=str(folder / "ours.jsonl")
    ).wait()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        plain = compose("erpo_trainer", overrides=settings)
    OmegaConf.set_struct(plain, False)
    OmegaConf.resolve(plain)
    del plain.erpo
    plain.trainer.default_local_dir = str(folder / "plain")
    OmegaConf.save(plain, folder / "plain.yaml")
    start(
        folder / "verl.log",
        "verl.trainer.main_ppo",
        ["--config-path", str(folder), "--config-name", "plain"],
        VERL_FILE_LOGGER_PATH=str(folder / "verl.jsonl"),
        VERL_PLATFORM="cpu",
        OMP_NUM_THREADS="1",
        VLLM_CPU_OMP_THREADS_BIND="nobind",
        VLLM_CPU_KVCACHE_SPACE="1",
    ).wait()
    return folder


def logged(file):
    """Metrics by step, as verl's file logger writes them."""
    return {line["step"]: line["data"] for line in map(json.loads, file.read_text().splitlines())}


def test_metrics_are_verls_for_the_same_rollouts(both):
    verl, ours = logged(both / "verl.jsonl"), logged(both / "ours.jsonl")
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


def test_trajectories_have_no_extra_column(both):
    dumps = sorted((both / "rollouts").rglob("tq_batch.pt"))
    assert len(dumps) == STEPS
    for dump in dumps:
        columns = set(torch.load(dump, weights_only=False)["tensordict"].keys())
        assert not {name for name in columns if "temperature" in name}


def test_plain_grpo_is_observed_all_the_same(both):
    groups = read_groups(both / "run")
    assert (groups["temperature"] == 1.0).all() and not groups["dropped"].any()
    observed = groups.groupby("step")["outcome"].agg(lambda outcomes: (outcomes == "all_correct").mean())
    metrics = read_metrics(both / "run")
    assert metrics["erpo/groups/frac_all_correct"].tolist() == pytest.approx(observed.tolist())
    assert observed.between(0.1, 0.9).all()
    assert (metrics["erpo/signal/frac_responses_with_gradient_ra"] == 0).all()
