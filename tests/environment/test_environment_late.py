# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What verl or vLLM would refuse late: found at the start, and nothing found where all is well."""

import json
import re

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir

from erpo.environment import Level
from erpo.environment.examination import examine_run, start_problem
from erpo.environment.late import late_findings
from recipe.erpo.main_erpo import CONFIG_FOLDER


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            ["actor_rollout_ref.rollout.temperature=2.4"],
            "sampling: .*temperature is 2.4, and vLLM samples up to 2; low",
        ),
        (
            ["data.gen_batch_size=6"],
            "prompts: data.gen_batch_size is 6, which does not divide .*=16; set it to null or",
        ),
        (["data.gen_batch_size=32"], "gen_batch_size is 32, which does not divide"),
        (["data.gen_batch_size=8"], None),
    ],
)
def test_what_the_first_prompts_would_fail_at(build, settings, sentence):
    grpo = ["erpo.schedule.name=none", "erpo.ra.enable=false", "erpo.groups.drop=[]"]
    config = build("cpu_arithmetic", *grpo, "algorithm.filter_groups.enable=false", *settings)
    problem = start_problem(config)
    found = [f.sentence() for f in examine_run(config) if f.check in ("sampling", "prompts")]
    if sentence is None:
        assert not found and not (problem or "").startswith("prompts")
    else:
        assert re.match(f".*{sentence}", problem) and found == [problem]


ACTOR, TP = "actor_rollout_ref.actor", "actor_rollout_ref.rollout.tensor_model_parallel_size"
TOKENS = f"{ACTOR}.ppo_max_token_len_per_gpu"
ENGINE = "actor_rollout_ref.rollout.checkpoint_engine.backend"


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ([f"{TOKENS}=63"], f"micro-batches: {TOKENS} is 63, but a prompt and its response have up to 64 tokens, and"),
        ([f"{TOKENS}=64"], None),
        ([f"{TOKENS}=63", "actor_rollout_ref.rollout.max_model_len=60"], None),
        ([f"{TOKENS}=63", f"{ACTOR}.use_dynamic_bsz=false"], None),
        (["actor_rollout_ref.rollout.log_prob_max_token_len_per_gpu=8"], r"rollout\.log_prob_max_token_len_per_gpu is"),
        (["actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=8"], None),
        (
            ["actor_rollout_ref.ref.log_prob_max_token_len_per_gpu=8", f"{ACTOR}.use_kl_loss=true"],
            r"actor_rollout_ref\.ref\.log_prob_max_token_len_per_gpu is 8",
        ),
        ([f"{TOKENS}=8", f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=4"], "is 8 on each of 4 GPUs, but"),
        ([f"{TOKENS}=16", f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=4"], None),
        ([f"{TOKENS}=16", f"{ACTOR}.ulysses_sequence_parallel_size=4"], None),
        ([f"{TP}=2"], f"GPUs: an engine of the rollout takes 2 .{TP}=2., which does not divide the 1 of trainer; set"),
        ([f"{TP}=2", "trainer.n_gpus_per_node=2"], None),
        (
            [f"{TP}=2", "trainer.v1.trainer_mode=separate_async", "actor_rollout_ref.rollout.nnodes=1",
             "actor_rollout_ref.rollout.n_gpus_per_node=2"],
            "does not divide the 1 of trainer",
        ),
        ([f"{TP}=2", "trainer.n_gpus_per_node=3"], "does not divide the 3 of trainer"),
        (
            [f"{TP}=2", "trainer.v1.trainer_mode=separate_async", "actor_rollout_ref.rollout.nnodes=1",
             "actor_rollout_ref.rollout.n_gpus_per_node=1", "trainer.n_gpus_per_node=2"],
            r"does not divide the 1 of actor_rollout_ref\.rollout",
        ),
    ],
)  # fmt: skip
def test_what_the_loaded_models_would_fail_at(build, settings, sentence):
    settings = ["actor_rollout_ref.rollout.max_model_len=64", "ray_kwargs.ray_init.num_gpus=8", *settings]
    config = build("cpu_arithmetic", *settings)
    checks = ("micro-batches", "GPUs")
    found = [f.sentence() for f in examine_run(config) if f.check in checks and f.level is Level.ERROR]
    if sentence is None:
        assert not found
    else:
        # The limit of the log-probs is that of the actor, unless it is set.
        assert len(found) == 1 + any(setting.startswith(TOKENS) for setting in settings)
        assert re.match(f".*{sentence}", found[0])
        assert start_problem(config) is not None


MICRO, LOG_PROB = f"{ACTOR}.ppo_micro_batch_size_per_gpu", "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu"
FIXED = [f"{ACTOR}.use_dynamic_bsz=false", "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=false"]
ULYSSES_4 = [f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=4", "trainer.n_gpus_per_node=4"]


SHAPE = {"num_attention_heads": 6, "num_key_value_heads": 3, "max_position_embeddings": 100}


# 8 prompts of 8 responses are a mini-batch.
@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ([], None),
        (["trainer.n_gpus_per_node=6"], "8 . 8 responses, which 6 data-parallel workers do not divide; change"),
        ([*FIXED, f"{MICRO}=4", f"{LOG_PROB}=16"], None),
        ([*FIXED, f"{MICRO}=3", f"{LOG_PROB}=16"], "per_gpu is 3, but it has to divide the 64 responses"),
        ([*FIXED, f"{MICRO}=4", f"{LOG_PROB}=32", "trainer.n_gpus_per_node=4"], "is 32, but .* the 16 responses"),
        ([*FIXED, f"{MICRO}=4"], "log_prob_micro_batch_size_per_gpu is None, but"),
        ([FIXED[0]], "ppo_micro_batch_size_per_gpu is None, but it has to divide"),
        ([FIXED[1]], "log_prob_use_dynamic_bsz differ; set them"),
        ([*ULYSSES_4, "actor_rollout_ref.model.use_remove_padding=true"], "is 4, which does not divide the 6"),
        # verl's older name.
        ([f"{ACTOR}.ulysses_sequence_parallel_size=4"], "4 GPUs share a sequence, which does not divide the 1 GPUs"),
        (
            [f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=2", "trainer.n_gpus_per_node=2",
             "actor_rollout_ref.model.use_remove_padding=true"],
            "and the model has 3 key-value heads: neither divides the other",
        ),
        ([ULYSSES_4[0]], "4 GPUs share a sequence, which does not divide the 1 GPUs"),
        ([f"{ACTOR}.fsdp_config.ulysses_sequence_parallel_size=2", "trainer.n_gpus_per_node=2"], "remove_padding is f"),
        ([f"{TP}=4", "trainer.n_gpus_per_node=4"], f"{TP} is 4, which does not divide the 6 attention heads"),
        (["actor_rollout_ref.rollout.max_model_len=101"], "max_model_len is 101, but the model has 100 positions"),
        ([f"{ACTOR}.use_kl_loss=true", f"{ACTOR}.kl_loss_type=full"], "kl_loss_type is full, which verl does not"),
        ([f"{ACTOR}.kl_loss_type=full"], None),
        (["algorithm.use_kl_in_reward=true", "algorithm.kl_penalty=kk"], "kl_penalty is kk, which verl does not"),
        ([f"{ACTOR}.clip_ratio_c=1.0"], "clip_ratio_c is 1.0, and has to be above 1"),
        ([f"{ACTOR}.optim.clip_grad=null"], "optim.clip_grad is not set; set a number"),
        ([f"{ACTOR}.optim.lr_warmup_steps=null"], "optim.lr_warmup_steps is not set"),
        (["trainer.v1.trainer_mode=separate_async", f"{ENGINE}=nccl"], "is nccl, which needs the package cupy"),
        (["trainer.v1.trainer_mode=separate_async", f"{ENGINE}=gloo"], None),
        (["reward.custom_reward_function.name=score"], "the reward function score of pkg://erpo.tasks.arithmetic.reward"),
        (["reward.custom_reward_function.path=null"], "has the data source mine, for which verl has no scorer; set"),
        (["trainer.logger=[console,wandb]"], "trainer.logger names wandb, and this machine has no key of it; run"),
        (["trainer.resume_mode=resume_path", "trainer.resume_from_path=TMP/global_step_3"], "saved by 2 GPUs and this"),
        (
            ["trainer.resume_mode=resume_path", "trainer.resume_from_path=TMP/global_step_3",
             "trainer.n_gpus_per_node=2", f"{ACTOR}.checkpoint.load_contents=[hf_model]"],
            r"load_contents has no model; add model, optimizer and extra",
        ),
        (
            ["trainer.resume_mode=resume_path", "trainer.resume_from_path=TMP/global_step_4",
             f"{ACTOR}.checkpoint.load_contents=[hf_model]"],
            "load_contents has no model",
        ),
    ],
)  # fmt: skip
def test_what_verl_would_refuse_with_the_models_loaded(build, tmp_path, monkeypatch, settings, sentence):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    (tmp_path / "config.json").write_text(json.dumps(SHAPE))
    pd.DataFrame({"data_source": ["mine", "openai/gsm8k"]}).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "global_step_4").mkdir()
    checkpoint = tmp_path / "global_step_3" / "actor"
    checkpoint.mkdir(parents=True)
    (checkpoint / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 2}))
    own = [f"actor_rollout_ref.model.path={tmp_path}", f"data.train_files={tmp_path / 'rows.parquet'}"]
    config = build("cpu_arithmetic", *own, *(setting.replace("TMP", str(tmp_path)) for setting in settings))
    (tmp_path / "empty.parquet").touch()
    pd.DataFrame({"prompt": ["p"]}).to_parquet(tmp_path / "prompts.parquet")
    # What is no file of rows is named by other checks.
    config.data.val_files = [f"{tmp_path}/empty.parquet", f"{tmp_path}/prompts.parquet", f"{tmp_path}/none.parquet"]
    found = [finding.sentence() for finding in late_findings(config)]
    if sentence is None:
        assert not found
    else:
        assert any(re.search(sentence, one) for one in found), found


def test_a_key_of_wandb_is_found_where_it_is_kept(build, tmp_path, monkeypatch):
    config = build("cpu_arithmetic", "trainer.logger=wandb", "data.train_files=[]", "data.val_files=[]")
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert len([*late_findings(config)]) == 1
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password abc\n")
    assert not [*late_findings(config)]
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert not [*late_findings(config)]


def test_a_logger_needs_its_package(build):
    # verl imports it when the models are loaded; the CPU environment has no MLflow.
    config = build("cpu_arithmetic", "trainer.logger=[console,mlflow]")
    problem = start_problem(config)
    assert problem is not None
    assert "names mlflow, whose package mlflow is not installed; install it, or take mlflow out" in problem
    assert [finding.sentence() for finding in examine_run(config) if finding.check == "logger"] == [problem]
    assert not [f for f in examine_run(build("cpu_arithmetic", "trainer.logger=tensorboard")) if f.check == "logger"]


@pytest.mark.parametrize("experiment", sorted(path.stem for path in (CONFIG_FOLDER / "experiment").glob("*.yaml")))
def test_nothing_is_found_in_the_shipped_experiments(experiment):
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        config = compose("erpo_trainer", overrides=[f"experiment={experiment}", "method=erpo"])
    assert [*late_findings(config)] == []
