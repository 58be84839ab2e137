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
"""``method=grpo`` through our entry point is verl's own ``main_ppo``: same columns, same settings, same metrics."""

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
# What a clock or the memory decides, not the method; and the age of trajectories, which verl sets anew when it replays.
VOLATILE = ("timing_s/", "timing_per_token_ms/", "perf/", "actor/perf/", "training/off_policy/trajectory_staleness")


@pytest.fixture(scope="module")
def both(untrained, tmp_path_factory):
    """Our run, which records its rollouts, and verl's on the recorded rollouts."""
    folder = tmp_path_factory.mktemp("grpo")
    recorded = [
        "method=grpo",
        f"trainer.total_training_steps={STEPS}",
        "trainer.save_freq=-1",
        "trainer.logger=[file]",
        "skip.rollout_tq.enable=true",
        f"skip.rollout_tq.steps={list(range(1, STEPS + 1))}",
        f"skip.rollout_tq.dump_dir={folder}/rollouts",
    ]
    arguments = small_run(untrained, folder / "run", *recorded)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        plain = compose("erpo_trainer", overrides=arguments)
    OmegaConf.set_struct(plain, False)
    OmegaConf.resolve(plain)
    del plain.erpo
    OmegaConf.save(plain, folder / "plain.yaml")
    on_cpu = {"VERL_PLATFORM": "cpu", "OMP_NUM_THREADS": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    start(
        folder / "ours.log",
        "recipe.erpo.main_erpo",
        arguments,
        VERL_FILE_LOGGER_PATH=str(folder / "ours.jsonl"),
    ).wait()
    start(
        folder / "verl.log",
        "verl.trainer.main_ppo",
        ["--config-path", str(folder), "--config-name", "plain"],
        VERL_FILE_LOGGER_PATH=str(folder / "verl.jsonl"),
        VLLM_CPU_KVCACHE_SPACE="1",
        **on_cpu,
    ).wait()
    return folder


def logged(path):
    """Metrics by step, as verl's own file logger wrote them."""
    return {line["step"]: line["data"] for line in map(json.loads, path.read_text().splitlines())}


def test_metrics_are_equal_for_the_same_rollouts(both):
    verl, ours = logged(both / "verl.jsonl"), logged(both / "ours.jsonl")
    assert verl.keys() == ours.keys() == set(range(1, STEPS + 1))
    for step, expected in verl.items():
        expected = {name: value for name, value in expected.items() if not name.startswith(VOLATILE)}
        got = {name: value for name, value in ours[step].items() if not name.startswith((*VOLATILE, "erpo/"))}
        assert got.keys() == expected.keys()
        assert expected["actor/grad_norm"] > 0
        # The first step starts from the same weights; afterwards gradient sums may round differently.
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, rel=1e-4, abs=1e-6), (step, name)


def test_trajectories_have_no_extra_column(both):
    dumps = sorted((both / "rollouts").rglob("tq_batch.pt"))
    assert len(dumps) == STEPS
    for dump in dumps:
        columns = set(torch.load(dump, weights_only=False)["tensordict"].keys())
        assert not {name for name in columns if "temperature" in name}


def test_plain_grpo_is_observed_all_the_same(both):
    groups = read_groups(both / "run")
    assert len(groups) == 8 * STEPS
    assert (groups["temperature"] == 1.0).all() and not groups["dropped"].any()
    metrics = read_metrics(both / "run")
    assert metrics["erpo/groups/frac_all_correct"].between(3 / 8, 6 / 8).all()
    assert (metrics["erpo/signal/frac_responses_with_gradient_ra"] == 0).all()
