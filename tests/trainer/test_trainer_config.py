# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings: every method composes, plain GRPO is plain verl, and nonsense is refused in one sentence."""

import dataclasses
import warnings
from pathlib import Path

import pytest
import verl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from ray.exceptions import RayTaskError
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import validate_config

from erpo.tracker import TrackerConfig, TrackerError
from erpo.tracker.schedules import SCHEDULES
from erpo.trainer import checks
from erpo.trainer.checks import check_data_files, check_settings
from erpo.trainer.config import ConfigError, ErpoConfig
from erpo.trainer.rows import check_rows
from recipe.erpo import main_erpo
from recipe.erpo.main_erpo import CONFIG_FOLDER

METHODS = ["grpo", "grpo_hot", "grpo_rising", "dapo", "ra", "erpo", "erpo_band", "erpo_predictive"]


def test_every_method_is_tested():
    files = {path.stem for path in (CONFIG_FOLDER / "method").glob("*.yaml")}
    assert files == set(METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_method_composes_and_passes_verls_own_validation(cpu_config, method):
    config = cpu_config(method)
    erpo = check_settings(config)
    assert erpo.method == method
    validate_config(config, need_reference_policy(config), need_critic(config))


def test_yaml_mirrors_the_dataclasses():
    from_yaml = OmegaConf.load(Path(CONFIG_FOLDER) / "erpo" / "default.yaml")
    config = OmegaConf.create({"erpo": from_yaml, "actor_rollout_ref": {"rollout": {"temperature": 1.0}}})
    values = OmegaConf.to_container(config, resolve=False)["erpo"]
    values["method"] = "erpo"
    values["schedule"]["name"] = "linear"
    resolved = OmegaConf.to_container(OmegaConf.create({**config, "erpo": values}), resolve=True)["erpo"]
    assert ErpoConfig.from_dict(resolved) == ErpoConfig()
    assert set(resolved) == {f.name for f in dataclasses.fields(ErpoConfig)}
    assert set(resolved["schedule"]) == {f.name for f in dataclasses.fields(TrackerConfig)}
    for name in SCHEDULES:
        section = getattr(TrackerConfig(), name)
        assert resolved["schedule"][name] == dataclasses.asdict(section)


def test_grpo_changes_no_setting_of_verl_but_the_estimator():
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        plain = OmegaConf.to_container(compose("ppo_trainer", overrides=["algorithm.adv_estimator=grpo"]))
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        ours = OmegaConf.to_container(compose("erpo_trainer", overrides=["method=grpo"]))
    ours.pop("erpo")
    assert ours == plain


@pytest.mark.parametrize("method", METHODS)
def test_methods_differ_from_grpo_only_where_the_method_is(cpu_config, method):
    grpo, other = (OmegaConf.to_container(cpu_config(name)) for name in ("grpo", method))
    for config in (grpo, other):
        config.pop("erpo")
        config["algorithm"].pop("filter_groups")
        config["actor_rollout_ref"]["model"].pop("external_lib")
        config["actor_rollout_ref"]["rollout"]["agent"].pop("agent_loop_manager_class", None)
    assert other == grpo


ROLLOUT = "actor_rollout_ref.rollout"
BAD_SETTINGS = [
    # (method, overrides, what the one sentence must say)
    ("erpo", [f"{ROLLOUT}.top_p=0.9"], "top_p is 0.9: .*; set it to 1.0"),
    ("erpo", [f"{ROLLOUT}.top_k=50"], "top_k is 50: .*; set it to -1"),
    ("grpo_hot", [f"{ROLLOUT}.min_p=0.05"], "min_p is 0.05"),
    ("erpo", [f"{ROLLOUT}.repetition_penalty=1.1"], "repetition_penalty is 1.1"),
    (
        "erpo",
        [f"{ROLLOUT}.engine_kwargs.vllm.override_generation_config={{top_k: 20}}"],
        "override_generation_config changes the sampling",
    ),
    ("erpo", [f"{ROLLOUT}.logprobs_mode=raw_logprobs"], "logprobs_mode is raw_logprobs"),
    ("erpo", [f"{ROLLOUT}.do_sample=false"], "do_sample is false"),
    ("erpo", [f"{ROLLOUT}.name=sglang"], "tested with vllm only"),
    ("erpo", ["actor_rollout_ref.model.use_fused_kernels=true"], "use_fused_kernels is true"),
    ("erpo", ["actor_rollout_ref.actor.strategy=torchtitan"], "strategy is torchtitan, whose engine"),
    ("erpo", ["actor_rollout_ref.ref.strategy=megatron"], r"ref\.strategy is megatron"),
    ("erpo", ["actor_rollout_ref.model.external_lib=null"], "external_lib does not name erpo.trainer.engine"),
    ("erpo", [f"{ROLLOUT}.agent.agent_loop_manager_class=null"], "sampled at one temperature"),
    ("erpo", ["erpo.schedule.linear.t_max=0.9"], "t_max"),
    ("erpo", ["erpo.schedule.linear.dt=0"], "linear.dt"),
    ("erpo", ["erpo.schedule.linear.on_mixed=forget"], "'hold' or 'reset', not 'forget'"),
    ("erpo", ["erpo.schedule.name=lineer"], "did you mean 'linear'"),
    ("erpo", ["erpo.schedule.linear.tmax=1.5"], "did you mean 't_max'"),
    ("grpo_hot", ["erpo.schedule.constant.temperature=-1"], "constant.temperature must be above 0"),
    ("grpo_hot", ["erpo.schedule.constant.temperature=0.001"], "below vLLM's least temperature"),
    ("grpo_rising", ["erpo.schedule.rising.t_first=1.9"], "below rising.t_first = 1.9; raise t_max or lower t_first"),
    ("grpo_rising", ["erpo.schedule.rising.t_first=0.001"], "below vLLM's least temperature"),
    ("erpo", ["erpo.schedule.linear.t_base=1.1"], "set them to the same value"),
    ("erpo_band", ["erpo.schedule.band.low=0.95"], "0 <= low < high <= 1"),
    ("erpo_predictive", ["erpo.schedule.predictive.target=1"], "between 0 and 1"),
    ("erpo", ["erpo.temperature=1.2"], "erpo.temperature is not a setting"),
    ("erpo", ["erpo.ra.pseudo_rewards=0"], "did you mean 'pseudo_reward'"),
    ("erpo", ["erpo.ra.count=0"], "erpo.ra.count is 0"),
    ("erpo", ["erpo.ra.count=1.5"], "must be of type int"),
    ("erpo", ["erpo.ra.scale=-1"], "erpo.ra.scale is -1"),
    ("erpo", ["erpo.ra.cap_decay=2"], r"erpo.ra.cap_decay is 2.*\(0, 1\]"),
    ("erpo", ["erpo.groups.drop=[mixed]"], "erpo.groups.drop names 'mixed'"),
    ("erpo", ["algorithm.filter_groups.enable=false"], "set algorithm.filter_groups.enable=true"),
    ("erpo", ["erpo.groups.drop=[]"], "name the kinds to drop"),
    ("erpo", ["erpo.groups.drop=[all_correct,all_wrong]"], "set only one of them"),
    ("ra", ["algorithm.adv_estimator=rloo"], "works with algorithm.adv_estimator=grpo, not rloo"),
    ("erpo", ["erpo.train_temperature=base"], "rollout_correction.rollout_is=token"),
    ("grpo", ["erpo.train_temperature=base"], "needs a temperature schedule"),
    ("erpo", ["erpo.train_temperature=warm"], "set 'sampling' or 'base'"),
    ("erpo", ["erpo.accuracy.threshold=.nan"], "erpo.accuracy.threshold is nan"),
    ("erpo", ["erpo.accuracy.tolerance=-1"], "erpo.accuracy.tolerance is -1"),
    ("erpo", ["erpo.samples.every=-1"], "erpo.samples.every is -1"),
    ("erpo", ["erpo.samples.groups=0"], "erpo.samples.every=0"),
    ("erpo", ["erpo.token_budget=0"], "erpo.token_budget is 0"),
    ("erpo", ["erpo.token_budget=1e6"], "erpo.token_budget is 1000000.0; it must be of type"),
    ("erpo", ["erpo.poll_interval=0"], "erpo.poll_interval is 0"),
    ("erpo", ["erpo.poll_interval=often"], "must be of type"),
    ("erpo", ["trainer.use_v1=false"], "set trainer.use_v1=true"),
]


@pytest.mark.parametrize(
    ("method", "overrides", "message"), BAD_SETTINGS, ids=[f"{m}-{o[0]}" for m, o, _ in BAD_SETTINGS]
)
def test_bad_setting_is_refused_in_one_sentence(cpu_config, method, overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        check_settings(cpu_config(method, *overrides))
    assert "\n" not in str(error.value)


def test_top_p_is_plain_grpos_own_business(cpu_config):
    check_settings(cpu_config("grpo", f"{ROLLOUT}.top_p=0.9"))


def test_a_folder_that_holds_a_run_is_not_overwritten(cpu_config):
    config = cpu_config("erpo", "trainer.resume_mode=disable")
    groups = Path(config.trainer.default_local_dir) / "groups"
    groups.mkdir(parents=True)
    check_settings(config)
    (groups / "step_000001.parquet").touch()
    with pytest.raises(ConfigError, match="already holds a run"):
        check_settings(config)


def test_a_data_file_that_does_not_exist_is_named(cpu_config, tmp_path):
    present = tmp_path / "present.parquet"
    present.touch()
    model = f"actor_rollout_ref.model.path={tmp_path}"
    check_data_files(
        cpu_config("erpo", model, f"data.train_files={present}", f"data.val_files=[{present},hdfs://a/b.parquet]")
    )
    with pytest.raises(ConfigError, match=r"data\.val_files names absent\.parquet, which does not exist; name an"):
        check_data_files(cpu_config("erpo", f"data.train_files={present}", "data.val_files=[absent.parquet]"))


def test_a_group_size_of_the_prompts_own_is_refused():
    with pytest.raises(ConfigError, match="column __rollout_n__"):
        check_rows([{"raw_prompt": [{"role": "user", "content": "1+1="}], "__rollout_n__": 16}])


@pytest.mark.parametrize("error", [ConfigError("no such setting"), TrackerError("a collision")])
def test_an_error_of_the_trainer_process_ends_the_run_in_one_sentence(error, monkeypatch):
    def fail(config):
        raise RayTaskError("run", "Traceback ...", error).as_instanceof_cause()

    monkeypatch.setattr(main_erpo, "train", fail)
    monkeypatch.setattr("sys.argv", ["main_erpo", "experiment=cpu_arithmetic"])
    with pytest.raises(SystemExit) as end:
        main_erpo.main()
    assert end.value.code == f"error: {error}"


def test_another_verl_is_a_warning(cpu_config, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_settings(cpu_config("erpo"))
    monkeypatch.setattr(checks, "TESTED_VERL", "0.0.1")
    with pytest.warns(UserWarning, match=r"tested with verl 0\.0\.1"):
        check_settings(cpu_config("erpo"))
