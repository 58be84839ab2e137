# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The Qwen2.5 experiments: they compose with every method, verl accepts them, and they hold what they claim to hold."""

import asyncio
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.trainer.config import AlgoConfig, CheckpointConfig
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config
from verl.utils.reward_score import default_compute_score
from verl.workers.config import FSDPActorConfig, RolloutConfig

from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.trainer.advantage import ra_advantages
from erpo.trainer.checks import check_settings
from erpo.trainer.config import ConfigError
from recipe.erpo.main_erpo import CONFIG_FOLDER

EXPERIMENTS = ["qwen2_5_3b", "qwen2_5_7b", "qwen2_5_32b"]
OTHERS = ["qwen2_5_0_5b", "qwen2_5_1_5b", "qwen3_4b", "llama3_2_3b", "smollm2"]
METHODS = ["grpo", "dapo", "ra", "erpo"]
PAIRS = [(experiment, method) for experiment in EXPERIMENTS for method in METHODS]
PAIRS += [(experiment, method) for experiment in OTHERS for method in ("grpo", "erpo")]
PER_PROMPT = ["grpo_hot", "grpo_rising", "grpo_fitted", "erpo_band", "erpo_predictive"]
PAIRS += [("qwen2_5_3b", method) for method in PER_PROMPT]


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "method"), PAIRS)
def test_experiment_passes_our_checks_and_verls_validation(composed, experiment, method):
    config = composed(f"experiment={experiment}", f"method={method}")
    assert check_settings(config).method == method
    assert not need_reference_policy(config)
    assert not need_critic(config)
    validate_config(config, use_reference_policy=False, use_critic=False)
    assert config.trainer.default_local_dir == f"runs/{experiment}/{method}"


def test_every_schedule_of_another_family_can_rise(composed):
    """A base temperature of a recipe's own must not lie above the cap of a method that somebody chooses."""
    for method in PER_PROMPT:
        config = check_settings(composed("experiment=qwen3_4b", f"method={method}"))
        schedule = getattr(config.schedule, config.schedule.name)
        assert schedule.t_base == 1.4
        assert (schedule.temperature if method == "grpo_hot" else schedule.t_max) == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_verls_dataclasses_accept_every_section(composed, experiment, tmp_path):
    config = composed(f"experiment={experiment}")
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert isinstance(actor, FSDPActorConfig)
    assert isinstance(actor.checkpoint, CheckpointConfig)
    assert actor.engine.strategy == "fsdp2"
    assert isinstance(omega_conf_to_dataclass(config.actor_rollout_ref.rollout), RolloutConfig)
    assert isinstance(omega_conf_to_dataclass(config.algorithm), AlgoConfig)
    # The model's section reads the model's folder.
    build_tokenizer().save_pretrained(tmp_path)
    build_model(build_tokenizer(), seed=0).save_pretrained(tmp_path)
    config.actor_rollout_ref.model.path = str(tmp_path)
    assert omega_conf_to_dataclass(config.actor_rollout_ref.model).enable_gradient_checkpointing


# What is to be reproduced: the paper's 175 steps, and the first author's later public runs on Qwen2.5-3B.
SHARED = {
    "data.train_batch_size": 256,
    "data.max_prompt_length": 2048,
    "data.max_response_length": 8192,
    "algorithm.use_kl_in_reward": False,
    "actor_rollout_ref.actor.ppo_mini_batch_size": 16,
    "actor_rollout_ref.actor.use_kl_loss": False,
    "actor_rollout_ref.actor.entropy_coeff": 0,
    "actor_rollout_ref.actor.clip_ratio_low": 0.2,
    "actor_rollout_ref.actor.clip_ratio_high": 0.28,
    "actor_rollout_ref.actor.clip_ratio_c": 10.0,
    "actor_rollout_ref.actor.loss_agg_mode": "token-mean",
    "actor_rollout_ref.actor.optim.lr": 1e-6,
    "actor_rollout_ref.actor.optim.lr_warmup_steps": 10,
    "actor_rollout_ref.actor.optim.weight_decay": 0.1,
    "actor_rollout_ref.actor.optim.clip_grad": 1.0,
    "actor_rollout_ref.rollout.n": 8,
    "actor_rollout_ref.rollout.temperature": 1.0,
    "actor_rollout_ref.rollout.top_p": 1.0,
    "actor_rollout_ref.rollout.val_kwargs.temperature": 1.0,
    "actor_rollout_ref.rollout.val_kwargs.top_p": 0.9,
    "actor_rollout_ref.rollout.val_kwargs.do_sample": True,
    "reward.reward_kwargs.overlong_buffer_cfg.enable": True,
    "reward.reward_kwargs.overlong_buffer_cfg.len": 2048,
    "reward.reward_kwargs.overlong_buffer_cfg.penalty_factor": 1.0,
    "reward.reward_kwargs.max_resp_len": 8192,
    "erpo.ra.pseudo_reward": -1.0,
    "trainer.total_training_steps": 175,
    "trainer.test_freq": 5,
}
OWN = {
    "qwen2_5_3b": ("Qwen/Qwen2.5-3B", 1, 4, 4),
    "qwen2_5_7b": ("Qwen/Qwen2.5-7B", 1, 8, 2),
    "qwen2_5_32b": ("Qwen/Qwen2.5-32B", 2, 8, 4),
}


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("method", METHODS)
def test_settings_are_those_of_the_reproduction_whatever_the_method(composed, experiment, method):
    config = composed(f"experiment={experiment}", f"method={method}")
    assert {name: OmegaConf.select(config, name) for name in SHARED} == SHARED
    trainer, rollout = config.trainer, config.actor_rollout_ref.rollout
    found = (config.actor_rollout_ref.model.path, trainer.nnodes, trainer.n_gpus_per_node)
    assert (*found, rollout.tensor_model_parallel_size) == OWN[experiment]


@pytest.mark.parametrize("experiment", [*EXPERIMENTS, *OTHERS])
def test_the_longest_sequence_fits_everywhere(composed, experiment):
    config = composed(f"experiment={experiment}")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    longest = config.data.max_prompt_length + config.data.max_response_length
    assert rollout.max_model_len == longest
    # verl asserts this at the first micro-batch that holds such a sequence, hours into a run.
    for tokens in (actor.ppo_max_token_len_per_gpu, rollout.log_prob_max_token_len_per_gpu):
        assert tokens * actor.fsdp_config.ulysses_sequence_parallel_size >= longest


@pytest.mark.parametrize("name", ["dapo_math", *EXPERIMENTS])
def test_every_value_says_where_it_comes_from(name):
    names_and_links = {"max_resp_len", "experiment_name", "default_local_dir", "project_name"}
    for line in (CONFIG_FOLDER / "experiment" / f"{name}.yaml").read_text().splitlines():
        leaf = re.match(r"\s+(\w+): [^#\s]", line)
        if leaf and leaf[1] not in names_and_links:
            assert re.search(r"# (paper|proxy|ours|data)\b", line), line


def sweep_jobs(params: dict[str, str]) -> list[list[str]]:
    """The overrides of every job, made by Hydra's own parser from the sweep's parameters."""
    jobs: list[list[str]] = [[]]
    for override in OverridesParser.create().parse_overrides([f"{name}={values}" for name, values in params.items()]):
        name = override.get_key_element()
        jobs = [[*job, f"{name}={value}"] for job in jobs for value in override.sweep_string_iterator()]
    return jobs


@pytest.mark.slow
def test_every_job_of_the_sweep_is_a_run_of_its_own(composed):
    sweep = OmegaConf.load(CONFIG_FOLDER / "sweep" / "erpo_sweep.yaml")
    jobs = sweep_jobs(sweep.hydra.sweeper.params)
    assert len(jobs) == 6
    base = composed("experiment=qwen2_5_3b", "+sweep=erpo_sweep")
    seen = set()
    for job in jobs:
        config = OmegaConf.merge(base, OmegaConf.from_dotlist(job))
        linear = check_settings(config).schedule.linear
        validate_config(config, use_reference_policy=False, use_critic=False)
        folder = f"runs/qwen2_5_3b/erpo-dt{linear.dt:g}-tmax{linear.t_max:g}"
        assert config.trainer.default_local_dir == folder
        seen.add((linear.dt, linear.t_max, folder))
        # Composing takes a second; that it gives the same is looked at once.
        if len(seen) == 6:
            assert composed("experiment=qwen2_5_3b", "+sweep=erpo_sweep", *job) == config
    assert len(seen) == 6


@pytest.mark.parametrize("method", ["grpo", "dapo", "ra", "grpo_hot", "erpo_band"])
def test_a_sweep_of_dt_needs_a_method_that_has_it(composed, method):
    with pytest.raises(ConfigError, match=rf"by erpo\.schedule\.linear, but the schedule of method={method} is"):
        check_settings(composed("experiment=qwen2_5_3b", f"method={method}", "+sweep=erpo_sweep"))


@pytest.mark.long
def test_hydra_starts_the_sweeps_jobs(tmp_path):
    # The first job is refused by the start-up checks, so nothing is trained; the sweep itself is Hydra's own.
    command = ["experiment=qwen2_5_7b", "+sweep=erpo_sweep", "trainer.use_v1=false"]
    run = subprocess.run(
        [sys.executable, "-m", "recipe.erpo.main_erpo", *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "Launching 6 jobs" in run.stdout
    assert run.stderr.strip().splitlines()[-1].startswith("error: trainer.use_v1 is false")
    assert [path.name for path in (tmp_path / "runs").rglob("*") if path.is_file()] == ["multirun.yaml"]


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize(
    ("answer", "length", "reward"),
    [("35", 100, 1.0), ("35", 6144, 1.0), ("35", 7168, 0.5), ("35", 8192, 0.0), ("36", 100, -1.0), ("36", 8192, -2.0)],
)
def test_overlong_penalty_lowers_the_reward_and_not_the_accuracy(composed, answer, length, reward):
    tokenizer = byte_tokenizer()
    ending = tokenizer.encode(f"\nAnswer: {answer}")
    response = [*tokenizer.encode("." * (length - len(ending))), *ending]
    data = DataProto.from_dict(
        tensors={"responses": torch.tensor([response]), "attention_mask": torch.ones(1, length, dtype=torch.long)},
        non_tensors={
            "data_source": np.array(["math_dapo"], dtype=object),
            "reward_model": np.array([{"ground_truth": "35"}], dtype=object),
            "extra_info": np.array([{}], dtype=object),
        },
    )
    config = composed("experiment=qwen2_5_3b")

    async def score() -> dict:
        manager = get_reward_manager_cls(config.reward.reward_manager.name)(config, tokenizer, default_compute_score)
        return await manager.run_single(data)

    result = asyncio.run(score())
    assert float(result["reward_score"]) == pytest.approx(reward)
    assert result["reward_extra_info"]["acc"] == (answer == "35")


def test_ra_takes_the_penalised_rewards_of_a_correct_group(composed):
    ra = check_settings(composed("experiment=qwen2_5_3b", "method=erpo")).ra
    advantages = ra_advantages(np.array([1.0] * 7 + [0.0]), ra, by_std=True)
    assert (advantages[:7] > 0).all()
    assert advantages[7] < 0
