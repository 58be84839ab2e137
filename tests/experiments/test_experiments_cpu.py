# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The experiments on a CPU: the platform alone, on which the others build, and what each of them adds."""

import pytest
from omegaconf import OmegaConf
from verl.utils.config import validate_config

from erpo.trainer.checks import check_settings

pytestmark = pytest.mark.slow
DTYPES = [
    "actor_rollout_ref.rollout.dtype",
    *(
        f"actor_rollout_ref.{role}.fsdp_config.{name}"
        for role in ("actor", "ref")
        for name in ("dtype", "mixed_precision.param_dtype")
    ),
]
MASTER = [
    f"actor_rollout_ref.{role}.fsdp_config.{name}"
    for role in ("actor", "ref")
    for name in ("model_dtype", "mixed_precision.reduce_dtype", "mixed_precision.buffer_dtype")
]


@pytest.mark.parametrize("experiment", ["cpu", "cpu_arithmetic", "cpu_smollm2"])
@pytest.mark.parametrize("method", ["grpo", "erpo"])
def test_experiment_passes_our_checks_and_verls_validation(composed, experiment, method):
    config = composed(
        f"experiment={experiment}",
        f"method={method}",
        "data.train_files=T.parquet",
        "data.val_files=V.parquet",
        "actor_rollout_ref.model.path=M",
    )
    assert check_settings(config).method == method
    validate_config(config, use_reference_policy=False, use_critic=False)
    assert config.trainer.device == "cpu"
    folder = f"runs/{experiment}/{method}"
    assert config.trainer.default_local_dir.startswith(folder + ("-" if experiment == "cpu_arithmetic" else ""))


@pytest.mark.parametrize(
    ("experiment", "override", "dtype"),
    [
        ("cpu", [], "float32"),
        ("cpu", ["cpu.dtype=bfloat16"], "bfloat16"),
        ("cpu_arithmetic", [], "float32"),
        ("cpu_smollm2", [], "bfloat16"),
        ("cpu_smollm2", ["cpu.dtype=float32"], "float32"),
    ],
)
def test_one_setting_says_what_is_computed_in_and_the_master_weights_stay_float32(
    composed, experiment, override, dtype
):
    config = composed(f"experiment={experiment}", *override)
    assert {OmegaConf.select(config, name) for name in DTYPES} == {dtype}
    assert {OmegaConf.select(config, name) for name in MASTER} <= {"float32", "fp32"}


@pytest.mark.parametrize("experiment", ["cpu_arithmetic", "cpu_smollm2"])
def test_sequences_fit_and_all_of_them_run_at_a_time(composed, experiment):
    config = composed(f"experiment={experiment}")
    rollout, actor = config.actor_rollout_ref.rollout, config.actor_rollout_ref.actor
    assert rollout.max_model_len >= config.data.max_prompt_length + config.data.max_response_length
    assert actor.ppo_max_token_len_per_gpu >= rollout.max_model_len
    assert rollout.max_num_seqs >= config.data.train_batch_size * rollout.n
