# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What failed late, or was ignored, is refused early in one sentence: a row for every case."""

import os
import subprocess
import warnings
from pathlib import Path

import datasets
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset

import recipe.erpo.run.wait_for_nodes
from erpo.trainer.checks import check_data_files, check_settings
from erpo.trainer.config import ConfigError
from erpo.trainer.rows import check_rows, check_sizes, check_tools
from recipe.erpo.main_erpo import CONFIG_FOLDER

SCRIPTS = Path(recipe.erpo.run.wait_for_nodes.__file__).parent
ROLLOUT = "actor_rollout_ref.rollout"
OVERLONG = "reward.reward_kwargs.overlong_buffer_cfg"
SAMPLER = "trainer.v1.sampler.custom_sampler"
AGENT, TURNS = f"{ROLLOUT}.agent", f"{ROLLOUT}.multi_turn"


@pytest.fixture(scope="module")
def base():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return {
            method: compose("erpo_trainer", overrides=["experiment=cpu_arithmetic", f"method={method}"])
            for method in ("grpo", "erpo", "grpo_rising")
        }


@pytest.fixture
def build(base, tmp_path):
    def merged(method, *settings):
        config = OmegaConf.create(OmegaConf.to_container(base[method], resolve=False))
        config.trainer.default_local_dir = f"{tmp_path}/run"
        dotlist = [setting.replace("TMP", str(tmp_path)) for setting in settings]
        config = OmegaConf.merge(config, OmegaConf.from_dotlist(dotlist))
        for setting in settings:
            name, value = setting.split("=", 1)
            if value == "???":  # which a merge skips
                OmegaConf.update(config, name, value)
        return config

    return merged


REFUSED = [
    pytest.param("grpo", [f"{ROLLOUT}.name=???"], r"rollout\.name is not set; .*as in vllm", id="no-engine-named"),
    pytest.param("erpo", ["actor_rollout_ref.model.path=null"], r"model\.path is not set", id="no-model"),
    pytest.param("erpo", ["data.train_files=null"], r"data\.train_files is not set", id="no-training-data"),
    pytest.param("erpo", ["trainer.project_name=???"], r"trainer\.project_name is not set", id="no-project-name"),
    pytest.param("grpo", ["data.train_batch_size=0"], "whole number above 0", id="empty-batch"),
    pytest.param("grpo", [f"{ROLLOUT}.n=null"], r"rollout\.n is None", id="group-size-null"),
    pytest.param("grpo", [f"{ROLLOUT}.temperature=0"], r"temperature is 0; set a number", id="temperature-zero"),
    pytest.param("grpo", ["trainer.total_training_steps=-5"], "total_training_steps is -5", id="steps-negative"),
    pytest.param("erpo", [f"{ROLLOUT}.n=1"], "group of one response", id="group-of-one"),
    pytest.param("grpo", ["trainer.resume_mode=atuo"], "resume_mode is atuo; set one of", id="resume-mode-misspelt"),
    pytest.param(
        "grpo", ["trainer.resume_mode=resume_path"], "resume_from_path is None; name a folder", id="resume-path-missing"
    ),
    pytest.param(
        "grpo",
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=TMP/global_step_3/"],
        "without a slash at the end",
        id="resume-path-with-slash",
    ),
    pytest.param(
        "grpo",
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=TMP/global_step_3"],
        "does not exist; name a checkpoint's folder",
        id="resume-path-not-there",
    ),
    pytest.param(
        "grpo",
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=TMP/step3"],
        "name a folder global_step_N",
        id="resume-path-without-step",
    ),
    pytest.param("grpo", ["trainer.resume_from_path=TMP/global_step_3"], "auto ignores it", id="resume-path-ignored"),
    pytest.param(
        "grpo", ["actor_rollout_ref.actor.checkpoint.async_save=true"], "never names the step", id="async-save-on-fsdp"
    ),
    pytest.param(
        "grpo", ["reward.reward_model.enable=true"],
        "enable_resource_pool=true", id="colocated-reward-model",
    ),
    pytest.param("grpo", [f"{SAMPLER}.path=/a.py"], "one alone is ignored", id="sampler-without-name"),
    pytest.param(
        "grpo", [f"{SAMPLER}.path=/nowhere.py", f"{SAMPLER}.name=S"], "cannot be loaded", id="sampler-not-there"
    ),
    pytest.param("grpo", [f"{AGENT}.default_agent_loop=toolagent"],
        "agent loops are single_turn_agent, tool_agent; set one of them, or name yours", id="agent-loop-unknown"),
    pytest.param("grpo", [f"{AGENT}.agent_loop_config_path=nowhere.yaml"],
        "agent_loop_config_path is nowhere.yaml, which does not exist; name a file", id="agent-loops-not-there"),
    pytest.param("grpo", [f"{AGENT}.agent_loop_config_path={SCRIPTS}/wait_for_nodes.py"],
        "which is no list of agent loops .*; give each a name", id="agent-loops-no-list"),
    pytest.param("grpo", [f"{TURNS}.tool_config_path=nowhere.yaml"], "tool_config_path is nowhere.yaml", id="no-tools"),
    pytest.param("erpo", [f"{TURNS}.function_tool_path=nowhere.py"], "function_tool_path is now", id="no-tool-file"),
    pytest.param("grpo", ["trainer.v1.trainer_mode=synchronous"], "set one of sync", id="trainer-mode-unknown"),
    pytest.param("grpo", ["trainer.v1.trainer_mode=separate_async"], r"parameter_sync_step \*", id="separate-batch"),
    pytest.param("erpo",
        ["erpo.ra.pseudo_reward=1", "reward.custom_reward_function.path=null"],
        "reward of a wrong answer", id="pseudo-reward-of-a-right-answer"),
    pytest.param(
        "grpo", [f"{OVERLONG}={{enable: true, len: 8, penalty_factor: 1}}", "reward.reward_kwargs.max_resp_len=32"],
        "naive ignores it", id="penalty-ignored"
    ),
    pytest.param(
        "grpo",
        [f"{OVERLONG}={{enable: true, len: 8, penalty_factor: 1}}", "reward.reward_manager.name=dapo"],
        "max_resp_len is None; set it to at least",
        id="penalty-without-limit",
    ),
    pytest.param(
        "grpo_rising",
        ["erpo.train_temperature=base", "algorithm.rollout_correction.rollout_is=token",
         "algorithm.rollout_correction.bypass_mode=true"],
        "bypass_mode=true switches off",
        id="base-temperature-in-bypass",
    ),
    pytest.param(
        "erpo",
        ["erpo.train_temperature=base", "algorithm.rollout_correction.rollout_is=token",
         f"{ROLLOUT}.calculate_log_probs=false"],
        "calculate_log_probs=false switches off",
        id="base-temperature-without-log-probs",
    ),
    pytest.param("erpo", ["distillation.enabled=true"], "scores the teacher at T=1", id="teacher-at-one"),
    pytest.param(
        "grpo", ["custom_reward_function.path=/r.py"], r"set reward\.custom_reward_function\.path", id="old-reward-path"
    ),
    pytest.param(
        "grpo", ["reward_model.reward_manager=dapo"], r"set reward\.reward_manager\.name", id="old-reward-manager"
    ),
    pytest.param(
        "grpo", ["reward_model.reward_kwargs.overlong_buffer_cfg.enable=true"],
        r"set reward\.reward_kwargs\.overlong_buffer_cfg\.enable", id="old-reward-kwargs",
    ),
    pytest.param("grpo", ["reward_model.model.path=/m"], r"reward\.reward_model\.model_path", id="old-reward-model"),
    pytest.param("grpo", ["sandbox_fusion.url=http://a"], r"set reward\.sandbox_fusion\.url", id="old-sandbox"),
    pytest.param(
        "erpo", ["algorithm.filter_groups.max_num_gen_batches=10"], r"erpo\.groups\.refill_limit", id="refill-limit"
    ),
    pytest.param("erpo", ["data.gen_batch_size=32"], "takes prompts one by one", id="gen-batch-size-with-filter"),
    pytest.param(
        "erpo", ["algorithm.filter_groups.metric=seq_reward"], r"judged by erpo\.accuracy\.metric", id="filter-metric"
    ),
    pytest.param("grpo", ["algorithm.use_pf_ppo=true"], "use_pf_ppo is True, but .* ignores it", id="pf-ppo"),
    pytest.param("grpo", ["data.reward_fn_key=source"], "name the column data_source", id="reward-fn-key"),
    pytest.param("erpo", [f"{ROLLOUT}.temperature=2.4"], r"linear\.t_max = 2\.0 is below", id="base-above-the-cap"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "settings", "sentence"), REFUSED)
def test_refused_in_one_sentence(build, method, settings, sentence):
    with pytest.raises(ConfigError, match=sentence) as error:
        check_settings(build(method, *settings))
    assert "\n" not in str(error.value)


ACCEPTED = [
    pytest.param("grpo", [f"{ROLLOUT}.temperature=2.4"], id="hot-base-under-grpo"),
    pytest.param("grpo", ["erpo.schedule.rising.t_max=0.5"], id="range-of-a-schedule-not-chosen"),
    pytest.param("grpo", [f"{ROLLOUT}.n=1"], id="one-response-under-grpo"),
    pytest.param("grpo", ["data.gen_batch_size=32"], id="gen-batch-size-without-filter"),
    pytest.param("erpo", ["algorithm.filter_groups.metric=pass", "erpo.accuracy.metric=pass"], id="metrics-agree"),
]


@pytest.mark.parametrize(("method", "settings"), ACCEPTED)
def test_accepted(build, method, settings):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_settings(build(method, *settings))


def test_what_is_only_doubtful_is_a_warning(build):
    penalty = [f"{OVERLONG}={{enable: true, len: 8, penalty_factor: 1}}", "reward.reward_kwargs.max_resp_len=32"]
    with pytest.warns(UserWarning, match="RA skips groups"):
        check_settings(
            build("erpo", *penalty, "reward.reward_manager.name=dapo", "reward.custom_reward_function.path=null")
        )
    with pytest.warns(UserWarning, match="are not compared"):
        check_settings(build("erpo", f"{ROLLOUT}.calculate_log_probs=false"))
    with pytest.warns(
        UserWarning, match=r"verl divides bf16 logits by it in bf16, .*schedule\.constant\.temperature=1\.2 "
    ):
        check_settings(
            build("grpo", f"{ROLLOUT}.temperature=1.2", "actor_rollout_ref.actor.fsdp_config.dtype=bfloat16")
        )
    # What it advises is taken without a word.
    constant = ["erpo.schedule.name=constant", "erpo.schedule.constant.temperature=1.2"]
    engine = "actor_rollout_ref.model.external_lib=erpo.trainer.engine"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_settings(build("grpo", *constant, engine, "actor_rollout_ref.actor.fsdp_config.dtype=bfloat16"))


def test_a_checkpoint_of_another_schedule_is_refused(build, tmp_path):
    state = tmp_path / "run" / "global_step_3" / "erpo"
    state.mkdir(parents=True)
    (state / "tracker.json").write_text('{"settings": {"name": "band"}}')
    (tmp_path / "run" / "latest_checkpointed_iteration.txt").write_text("3")
    with pytest.raises(ConfigError, match=r"saved with erpo\.schedule\.name=band, this run has linear"):
        check_settings(build("erpo"))


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        pytest.param("class S: pass", "not a subclass of verl's ReplayBuffer", id="sampler-of-its-own-kind"),
        pytest.param(
            "class S(ReplayBuffer):\n  def sample(self): return None",
            r"call super\(\).sample\(\)",
            id="sampler-without-hook",
        ),
        pytest.param(
            "class S(ReplayBuffer):\n  def _clear_groups(self, p, u): return None",
            r"replaces _clear_groups\(\)",
            id="sampler-that-keeps-what-it-drops",
        ),
        pytest.param(
            "class S(ReplayBuffer):\n  def _dapo_filtered_keys(self, p): return super()._dapo_filtered_keys(p)",
            "leave it out",
            id="sampler-with-a-filter-of-its-own",
        ),
        pytest.param(
            "class S(ReplayBuffer):\n  def sample(self): return super().sample()", None, id="sampler-that-asks"
        ),
    ],
)
def test_custom_sampler(build, tmp_path, body, sentence):
    (tmp_path / "s.py").write_text(f"from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer\n{body}\n")
    config = build("grpo", f"{SAMPLER}.path=TMP/s.py", f"{SAMPLER}.name=S")
    if sentence is None:
        check_settings(config)
        return
    with pytest.raises(ConfigError, match=sentence):
        check_settings(config)


FILES = ["data.train_files=TMP/a.parquet", "data.val_files=TMP/a.parquet"]


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        pytest.param("data.val_files=null", "data.val_files is empty", id="no-validation-file"),
        pytest.param("data.val_files=TMP", "verl reads .parquet", id="a-folder-for-a-file"),
    ],
)
def test_files(build, tmp_path, setting, sentence):
    (tmp_path / "a.parquet").touch()
    check_data_files(build("erpo", *FILES))
    with pytest.raises(ConfigError, match=sentence):
        check_data_files(build("erpo", *FILES, setting))


GOOD = {
    "data_source": "d",
    "prompt": [{"role": "user", "content": "1+1="}],
    "reward_model": {"style": "rule", "ground_truth": "2"},
    "extra_info": {"index": 0},
}


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        pytest.param({"extra_info": '{"index": 0}'}, "extra_info is text", id="extra-info-as-json-text"),
        pytest.param({"reward_model": '{"ground_truth": "2"}'}, "reward_model is text", id="reward-model-as-json-text"),
        pytest.param({"reward_model": None}, "reward_model is None", id="reward-model-null"),
        pytest.param({"reward_model": {"style": "rule"}}, "reward_model has no ground_truth", id="no-ground-truth"),
        pytest.param({"data_source": None}, "data_source is None", id="no-data-source"),
        pytest.param({"extra_info": None}, None, id="extra-info-null-is-fine"),
    ],
)
def test_cells(tmp_path, changed, sentence):
    file = tmp_path / "rows.parquet"
    datasets.Dataset.from_list([{**GOOD, **changed}]).to_parquet(str(file))
    settings = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path)})
    rows = RLHFDataset(str(file), tokenizer=None, config=settings)
    if sentence is None:
        check_rows(rows)
        return
    with pytest.raises(ConfigError, match=rf"data\.train_files, row 0: {sentence}"):
        check_rows(rows)


@pytest.mark.parametrize(
    ("settings", "column", "refused"),
    [
        pytest.param({"multi_turn": {"enable": True}}, False, "enable", id="several-turns-in-a-single-one"),
        pytest.param({"multi_turn": {"tool_config_path": "t"}}, False, "tool_config_path", id="tools-never-called"),
        pytest.param({"multi_turn": {"function_tool_path": "t"}}, False, "function_tool_path", id="functions-neither"),
        pytest.param({"multi_turn": {"tool_config_path": "t"}}, True, None, id="rows-choose-their-loop"),
        pytest.param(
            {"multi_turn": {"tool_config_path": "t"}, "agent": {"default_agent_loop": "tool_agent"}}, False, None,
            id="tools-are-called",
        ),
        pytest.param({}, False, None, id="no-tools"),
    ],
)  # fmt: skip
def test_tools_that_no_prompt_can_call(base, tmp_path, settings, column, refused):
    rollout = OmegaConf.merge(base["grpo"].actor_rollout_ref.rollout, settings)
    file = tmp_path / "rows.parquet"
    datasets.Dataset.from_list([{**GOOD, **({"agent_name": "tool_agent"} if column else {})}]).to_parquet(str(file))
    data = OmegaConf.create({"filter_overlong_prompts": False, "cache_dir": str(tmp_path)})
    rows = RLHFDataset(str(file), tokenizer=None, config=data)
    if refused is None:
        check_tools(rows, rollout)
        return
    with pytest.raises(ConfigError, match=rf"multi_turn\.{refused} is set, .*; set .*=tool_agent, or add a column"):
        check_tools(rows, rollout)


@pytest.mark.parametrize(
    ("train", "val", "filtered", "sentence"),
    [
        pytest.param(
            10, 4, False, r"hold 10 prompts, fewer than data\.train_batch_size=16; add", id="less-than-a-batch"
        ),
        pytest.param(0, 4, True, r"hold 0 prompts of at most .*=32 tokens, .* raise the limit", id="all-overlong"),
        pytest.param(16, 0, True, "val_files hold no prompt", id="validation-all-overlong"),
        pytest.param(16, 1, True, None, id="just-enough"),
    ],
)
def test_sizes(train, val, filtered, sentence):
    data = {"train_batch_size": 16, "max_prompt_length": 32, "filter_overlong_prompts": filtered}
    if sentence is None:
        check_sizes([0] * train, [0] * val, data)
        return
    with pytest.raises(ConfigError, match=sentence):
        check_sizes([0] * train, [0] * val, data)


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        pytest.param([], {"IPS": "172.17.0.1 10.0.0.5"}, "RAY_ADDRESS=10.0.0.5:6379", id="docker-bridge-first"),
        pytest.param([], {"IPS": "172.21.0.1 10.0.0.5"}, "RAY_ADDRESS=10.0.0.5:6379", id="compose-bridge-first"),
        pytest.param([], {"IPS": "fd00::12 10.0.0.5"}, "RAY_ADDRESS=10.0.0.5:6379", id="ipv6-first"),
        pytest.param(["--ip", "10.1.1.1"], {"IPS": "10.0.0.5"}, "RAY_ADDRESS=10.1.1.1:6379", id="address-by-option"),
        pytest.param([], {"IPS": "10.0.0.5", "HEAD_IP": "10.2.2.2"}, "=10.2.2.2:6379", id="address-by-variable"),
        pytest.param(["--ip", "fd00::12"], {"IPS": ""}, "an IPv4 address or a host's name is needed", id="bare-ipv6"),
        pytest.param([], {"IPS": "10.0.0.5", "SLURM_GPUS_PER_NODE": "a100:4"}, "n_gpus_per_node=4 ", id="typed-gpus"),
        pytest.param([], {"IPS": "10.0.0.5", "SLURM_GPUS_PER_NODE": "gpu:a100:4"}, "per_node=4 ", id="gres-gpus"),
        pytest.param([], {"IPS": "10.0.0.5", "SLURM_GPUS_PER_NODE": "a100"}, "gives 'a100' GPUs", id="gpus-unclear"),
    ],
)  # fmt: skip
def test_slurm_head(tmp_path, options, environment, expected):
    fake = tmp_path / "hostname"
    fake.write_text('#!/bin/bash\necho "$IPS"\n')
    fake.chmod(0o755)
    shown = subprocess.run(
        [SCRIPTS / "slurm.sh", *options, "--dry-run", "experiment=x"],
        capture_output=True,
        text=True,
        env={"PATH": f"{tmp_path}{os.pathsep}/usr/bin:/bin", **environment},
        timeout=30,
    )
    assert expected in shown.stdout + shown.stderr
