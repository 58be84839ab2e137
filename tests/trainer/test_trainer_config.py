# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings: every method composes, plain GRPO is plain verl, and nonsense is refused in one sentence."""

import dataclasses
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import verl
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from ray.exceptions import RayTaskError
from verl.trainer.ppo.core_algos import get_policy_loss_fn
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.utils.config import omega_conf_to_dataclass, validate_config

from erpo.tasks.arithmetic.model import build_tokenizer
from erpo.tracker import TrackerConfig, TrackerError
from erpo.tracker.schedules import SCHEDULES
from erpo.trainer import checks
from erpo.trainer.checks import check_data_files, check_settings
from erpo.trainer.config import ConfigError, ErpoConfig
from erpo.trainer.folders import prepare_folders
from erpo.trainer.rows import check_rows
from erpo.trainer.trainer import ErpoTrainerSync
from recipe.erpo import main_erpo
from recipe.erpo.main_erpo import CONFIG_FOLDER

METHODS = ["grpo", "grpo_hot", "grpo_rising", "grpo_fitted", "dapo", "ra", "erpo", "erpo_band", "erpo_predictive"]


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


def test_a_rise_takes_the_whole_run_unless_told(cpu_config):
    whole = "erpo.schedule.rising.steps=${oc.select:trainer.total_training_steps,100}"  # the default
    assert str(OmegaConf.load(Path(CONFIG_FOLDER) / "erpo" / "default.yaml").schedule.rising).count(whole[27:]) == 1
    steps = "trainer.total_training_steps"
    assert check_settings(cpu_config("grpo_rising", whole, f"{steps}=37")).schedule.rising.steps == 37
    with pytest.raises(ConfigError, match=r"rising\.steps is not set"):
        check_settings(cpu_config("grpo_rising", whole, f"{steps}=null"))
    # Other methods do not read it.
    check_settings(cpu_config("erpo", whole, f"{steps}=null"))
    with pytest.warns(UserWarning, match="token_budget may end the run before the temperature reaches"):
        check_settings(cpu_config("grpo_rising", whole, f"{steps}=37", "erpo.token_budget=1000"))


@pytest.mark.parametrize(
    ("method", "settings", "sentence"),
    [
        ("grpo_hot", ["constant.temperature=1.2"], "below the base temperature 1.4: all prompts are sampled colder"),
        ("grpo_hot", ["constant.temperature=1.4"], None),
        ("grpo_rising", ["rising.t_first=1.0", "rising.t_max=1.2"], "goes from 1 to 1.2, which is not above"),
        ("grpo_rising", ["rising.t_first=1.4", "rising.t_max=1.4"], "goes from 1.4 to 1.4, which is not above"),
        ("grpo_rising", ["rising.t_first=1.4", "rising.t_max=1.5"], None),
    ],
)
def test_a_control_that_is_not_hotter_than_the_base_is_said(cpu_config, method, settings, sentence):
    settings = [f"{ROLLOUT}.temperature=1.4", *(f"erpo.schedule.{setting}" for setting in settings)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_settings(cpu_config(method, *settings))
    said = [str(warning.message) for warning in caught if "erpo.schedule" in str(warning.message)]
    assert not said if sentence is None else len(said) == 1 and sentence in said[0]


def test_grpo_changes_no_setting_of_verl_but_the_estimator():
    with initialize_config_dir(str(Path(verl.__file__).parent / "trainer" / "config"), version_base=None):
        plain = OmegaConf.to_container(compose("ppo_trainer", overrides=["algorithm.adv_estimator=grpo"]))
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        ours = OmegaConf.to_container(compose("erpo_trainer", overrides=["method=grpo"]))
    ours.pop("erpo")
    # It samples as verl's does, and writes the tags that the group log and the history are read from.
    manager = ours["actor_rollout_ref"]["rollout"]["agent"].pop("agent_loop_manager_class")
    assert manager == checks.MANAGER_CLASS
    plain["actor_rollout_ref"]["rollout"]["agent"].pop("agent_loop_manager_class", None)
    for config in (ours, plain):
        for name in ("project_name", "experiment_name", "default_local_dir"):
            config["trainer"].pop(name)
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
ACTOR = "actor_rollout_ref.actor"
CORRECTION = "algorithm.rollout_correction"
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
    ("grpo", [f"{ROLLOUT}.do_sample=false"], "do_sample is false, but verl's V1 trainer samples all the same"),
    ("grpo", [f"{ROLLOUT}.val_kwargs.do_sample=false"], "validates at val_kwargs.temperature, which is 1.0; set that"),
    ("grpo", [f"{ROLLOUT}.val_kwargs.n=0"], "val_kwargs.n is 0; set a whole number above 0"),
    ("grpo", [f"{ROLLOUT}.val_kwargs.temperature=3"], "val_kwargs.temperature is 3; set a number from 0 to 2"),
    ("grpo", [f"{ROLLOUT}.val_kwargs.temperature=.nan"], "val_kwargs.temperature is nan; set a number"),
    ("grpo", [f"{ROLLOUT}.temperature=.inf"], "rollout.temperature is inf; set a number above 0"),
    ("grpo", [f"{ROLLOUT}.over_sample_rate=0.2"], "over_sample_rate is 0.2, but verl's V1 trainer ignores it"),
    ("grpo", [f"{ROLLOUT}.multi_turn.num_repeat_rollouts=4"], "ignores it; set actor_rollout_ref.rollout.n instead"),
    ("grpo", [f"{ACTOR}.grad_clip=0.1"], "ignores it; set actor_rollout_ref.actor.optim.clip_grad instead"),
    ("grpo", ["critic.grad_clip=0.1"], "ignores it; set critic.optim.clip_grad instead"),
    ("grpo", [f"{ACTOR}.freeze_vision_tower=true"], "ignores it; remove it: all weights are trained"),
    ("grpo", ["actor_rollout_ref.nccl_timeout=7200"], "nccl_timeout is 7200, but verl's V1 trainer ignores it"),
    ("grpo", ["critic.nccl_timeout=7200"], "critic.nccl_timeout is 7200, but verl's V1 trainer ignores it"),
    (
        "grpo",
        [f"{CORRECTION}.bypass_mode=true", f"{CORRECTION}.rollout_is=token"],
        r"set .*policy_loss\.loss_mode=bypass_mode and \+actor.*policy_loss\.rollout_correction\.rollout_is=token",
    ),
    (
        "erpo",
        [f"{CORRECTION}.bypass_mode=true", f"{CORRECTION}.rollout_rs=token_k1"],
        r"does not hand to the loss; .*policy_loss\.rollout_correction\.rollout_rs=token_k1",
    ),
    ("grpo", [f"{CORRECTION}.loss_type=reinforce"], r"loss_type is reinforce, which .*\.loss_type=reinforce in its"),
    ("grpo", [f"{ACTOR}.policy_loss.loss_mode=bypass_mode"], "rollout's; set algorithm.rollout_correction.bypass_mode"),
    (
        "grpo",
        [f"{CORRECTION}.bypass_mode=true", f"{ROLLOUT}.calculate_log_probs=false"],
        "bypass_mode is set, but needs the rollout's log-probs; set actor_rollout_ref.rollout.calculate_log_probs=true",
    ),
    (
        "grpo",
        [f"{CORRECTION}.rollout_is=token", f"{ROLLOUT}.calculate_log_probs=false"],
        "rollout_is is set, but needs the rollout's log-probs",
    ),
    (
        "grpo",
        [f"{CORRECTION}.rollout_rs=token_k1", f"{ROLLOUT}.calculate_log_probs=false"],
        "rollout_rs is set, but needs the rollout's log-probs",
    ),
    ("grpo", ["trainer.default_local_dir=null"], "trainer.default_local_dir is not set"),
    ("grpo", ["reward.custom_reward_function.path=/nowhere.py"], "/nowhere.py, which does not exist; name a file"),
    ("grpo", ["reward.custom_reward_function.path=pkg://erpo.nowhere"], "pkg://erpo.nowhere, which does not exist"),
    ("grpo", ["reward.custom_reward_function.path=pkg://nowhere.at.all"], "which does not exist"),
    ("grpo", ["algorithm.adv_estimator=gpro"], "adv_estimator is gpro, which verl does not have; set one of gae, "),
    ("grpo", [f"{ACTOR}.policy_loss.loss_mode=gpso"], "loss_mode is gpso, which verl does not have; set one of van"),
    ("grpo", ["trainer.logger=[console,wandv]"], "trainer.logger names wandv, which verl does not have; use wandb"),
    ("grpo", ["trainer.logger=null"], "trainer.logger names None, which"),
    (
        "grpo",
        ["reward.reward_manager.name=naiv", "reward.custom_reward_function.path=null"],
        "reward_manager.name is naiv, which verl does not have; set one of dapo, ",
    ),
    (
        "grpo",
        ["reward.reward_manager.source=importlib", "reward.reward_manager.module.path=/nowhere.py"],
        "module.path is /nowhere.py, which does not exist; name a file",
    ),
    ("grpo", ["reward.reward_manager.source=import"], "reward_manager.source is import; set register or importlib"),
    ("grpo", ["trainer.save_freq=never"], "trainer.save_freq is never; set a whole number of steps"),
    ("grpo", ["trainer.test_freq=null"], "trainer.test_freq is None; set a whole number of steps"),
    (
        "grpo_rising",
        ["erpo.schedule.rising.steps=null"],
        "rising.steps is not set; set the training steps over which",
    ),
    ("grpo_hot", [f"{ROLLOUT}.n=1", "erpo.groups.drop=[all_wrong]"], "group of one response"),
    ("erpo", [f"{ROLLOUT}.name=sglang"], "tested with vllm only"),
    (
        "erpo",
        ["actor_rollout_ref.actor.strategy=megatron"],
        "verl's FSDPActorConfig; compose them with model_engine=megatron",
    ),
    ("grpo", ["actor_rollout_ref.ref.strategy=megatron"], "FSDPActorConfig; compose them with model_engine=megatron"),
    ("erpo", ["erpo.schedule.linear.t_max=2.5"], "above 2, the highest that vLLM samples at"),
    (
        "erpo",
        [
            "actor_rollout_ref.model.use_fused_kernels=true",
            "actor_rollout_ref.actor.strategy=veomni",
            "actor_rollout_ref.actor._target_=verl.workers.config.VeOmniActorConfig",
        ],
        "use_fused_kernels is true, but the fused kernels of actor.strategy=veomni",
    ),
    (
        "erpo",
        [
            "actor_rollout_ref.model.use_fused_kernels=true",
            "actor_rollout_ref.model.fused_kernel_options.impl_backend=null",
        ],
        "impl_backend is None, so verl fuses nothing",
    ),
    ("erpo", ["actor_rollout_ref.actor.calculate_sum_pi_squared=true"], "calculate_sum_pi_squared is true"),
    ("erpo", ["actor_rollout_ref.actor.strategy=torchtitan"], "strategy is torchtitan, whose engine"),
    ("erpo", ["actor_rollout_ref.ref.strategy=torchtitan"], r"ref\.strategy is torchtitan"),
    ("erpo", ["actor_rollout_ref.model.external_lib=null"], "external_lib does not name erpo.trainer.engine"),
    ("erpo", [f"{ROLLOUT}.agent.agent_loop_manager_class=null"], "nor report finished groups; set it to"),
    ("erpo", ["erpo.schedule.linear.t_max=0.9"], "t_max"),
    ("erpo", ["erpo.tripwire.steps=0"], "erpo.tripwire.steps is 0; set 1 or more"),
    ("erpo", ["erpo.tripwire.limit=1.5"], "erpo.tripwire.limit is 1.5; set a number between 0 and 1"),
    ("erpo", ["erpo.heat.tokens=-1"], "erpo.heat.tokens is -1; set a number of tokens, or 0 for none"),
    ("erpo", ["erpo.heat.rare=0"], "erpo.heat.rare is 0; set a probability between 0 and 1"),
    ("erpo", ["erpo.tripwire.limits=0.5"], "did you mean 'limit'"),
    ("erpo", ["erpo.schedule.linear.dt=0"], "linear.dt"),
    ("erpo", ["erpo.schedule.linear.on_mixed=forget"], "'hold' or 'reset', not 'forget'"),
    ("erpo", ["erpo.schedule.name=lineer"], "did you mean 'linear'"),
    ("erpo", ["erpo.schedule.linear.tmax=1.5"], "did you mean 't_max'"),
    ("grpo_hot", ["erpo.schedule.constant.temperature=-1"], "constant.temperature must be above 0"),
    ("grpo_hot", ["erpo.schedule.constant.temperature=0.001"], "below vLLM's lowest temperature"),
    ("grpo_rising", ["erpo.schedule.rising.t_first=1.9"], "below rising.t_first = 1.9; raise t_max or lower t_first"),
    ("grpo_rising", ["erpo.schedule.rising.t_first=0.001"], "below vLLM's lowest temperature"),
    ("erpo", ["erpo.schedule.linear.t_base=1.1"], "set them to the same value"),
    ("erpo_band", ["erpo.schedule.band.low=0.95"], "0 <= low < high <= 1"),
    ("erpo_predictive", ["erpo.schedule.predictive.target=1"], "between 0 and 1"),
    ("grpo_fitted", ["erpo.schedule.fitted.target=0"], "between 0 and 1"),
    ("grpo_fitted", ["erpo.schedule.fitted.t_max=2.5"], "above 2, the highest that vLLM samples at"),
    ("erpo", ["erpo.temperature=1.2"], "erpo.temperature is not a setting"),
    ("erpo", ["erpo.ra.pseudo_rewards=0"], "did you mean 'pseudo_reward'"),
    ("erpo", ["erpo.ra.count=0"], "erpo.ra.count is 0"),
    ("erpo", ["erpo.ra.count=1.5"], "must be of type int"),
    ("erpo", ["erpo.ra.scale=-1"], "erpo.ra.scale is -1"),
    ("erpo", ["erpo.ra.cap_decay=2"], r"erpo.ra.cap_decay is 2.*\(0, 1\]"),
    ("erpo", ["erpo.groups.drop=[mixed]"], "erpo.groups.drop names 'mixed'"),
    ("erpo", ["algorithm.filter_groups.enable=false"], "set algorithm.filter_groups.enable=true"),
    ("erpo", ["erpo.groups.drop=[]"], "name the kinds to drop"),
    ("erpo", ["erpo.groups.drop=[all_correct,all_wrong]"], "remove all_correct from it, or set erpo.ra.enable=false"),
    ("ra", ["erpo.ra.cap_decay=0.5"], "cap_decay is 0.5, but without a temperature schedule no prompt is ever at the"),
    ("ra", ["algorithm.adv_estimator=grpo_passk"], "has no meaning with algorithm.adv_estimator=grpo_passk, whose adv"),
    (
        "ra",
        ["algorithm.adv_estimator=reinforce_plus_plus"],
        "which has no group baseline, .*; set one of grpo",
    ),
    ("erpo", ["algorithm.adv_estimator=reinforce_plus_plus_baseline"], "which normalizes advantages over the whole"),
    ("ra", ["algorithm.adv_estimator=gae", "critic.enable=true"], "whose baseline is a critic's and not the group's"),
    (
        "ra",
        ["algorithm.adv_estimator=mine"],
        "mine, which is not one of verl's estimators, .*, or erpo.ra.enable=false",
    ),
    ("grpo", ["algorithm.adv_estimator=gae"], "gae, but critic.enable is false"),
    ("grpo", ["algorithm.adv_estimator=remax"], "remax, to which verl's V1 trainer does not hand the rewards of gre"),
    ("ra", ["algorithm.adv_estimator=gdpo"], "gdpo, to which verl's V1 trainer does not hand the single rewards"),
    ("grpo", ["algorithm.adv_estimator=optimal_token_baseline"], "does not hand the actor's sum_pi_squared"),
    ("ra", ["algorithm.adv_estimator=tir_optimal_token_baseline"], "does not hand the actor's sum_pi_squared"),
    (
        "ra",
        ["algorithm.adv_estimator=grpo_vectorized", "algorithm.norm_adv_by_std_in_grpo=false"],
        "passes it to grpo only",
    ),
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
    ("erpo", ["erpo.groups.refill_factor=3"], "refill_factor is 3"),
    ("erpo", ["erpo.groups.refill_limit=0"], "refill_limit is 0"),
    ("erpo", ["erpo.groups.max_unscored=2"], "max_unscored is 2"),
]


@pytest.mark.parametrize(
    ("method", "overrides", "message"), BAD_SETTINGS, ids=[f"{m}-{o[0]}" for m, o, _ in BAD_SETTINGS]
)
def test_bad_setting_is_refused_in_one_sentence(cpu_config, method, overrides, message):
    with pytest.raises(ConfigError, match=message) as error:
        check_settings(cpu_config(method, *overrides))
    assert "\n" not in str(error.value)


GOOD_SETTINGS = [
    ("grpo", [f"{ROLLOUT}.top_p=0.9"]),
    # Its temperatures do not depend on what the groups are.
    ("grpo_hot", [f"{ROLLOUT}.n=1"]),
    ("grpo_rising", [f"{ROLLOUT}.n=1"]),
    ("grpo", [f"{ROLLOUT}.val_kwargs.do_sample=false", f"{ROLLOUT}.val_kwargs.temperature=0"]),
    # What the refusal of rollout_is in bypass mode advises.
    (
        "grpo",
        [
            f"{CORRECTION}.bypass_mode=true",
            f"{ACTOR}.policy_loss.loss_mode=bypass_mode",
            f"{ACTOR}.policy_loss.rollout_correction.rollout_is=token",
        ],
    ),
    ("grpo", [f"{CORRECTION}.rollout_is=token"]),
    ("grpo", ["trainer.logger=console"]),
    # A module of the user's own can register more names.
    ("grpo", ["algorithm.adv_estimator=mine", "actor_rollout_ref.model.external_lib=my_estimators"]),
]


@pytest.mark.parametrize(("method", "overrides"), GOOD_SETTINGS, ids=[f"{m}-{o[0]}" for m, o in GOOD_SETTINGS])
def test_what_works_is_not_refused(cpu_config, method, overrides):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_settings(cpu_config(method, *overrides))


def test_verls_loss_of_bypass_mode_reads_what_the_refusal_advises(cpu_config):
    policy_loss = f"{ACTOR}.policy_loss"
    settings = [f"{policy_loss}.loss_mode=bypass_mode", f"{policy_loss}.rollout_correction.rollout_is=token"]
    actor = omega_conf_to_dataclass(cpu_config("grpo", *settings).actor_rollout_ref.actor)
    actor.global_batch_info.update(dp_size=1, batch_num_tokens=None, global_batch_size=None, loss_scale_factor=None)
    log_probs, ones = -torch.rand(2, 3), torch.ones(2, 3)
    loss = get_policy_loss_fn(actor.policy_loss.loss_mode)
    _, metrics = loss(2 * log_probs, log_probs, ones, ones, "token-mean", actor)
    assert "rollout_corr/rollout_is_mean" in metrics


@pytest.mark.parametrize(
    ("method", "name"),
    [("erpo", "linear"), ("erpo_band", "band"), ("erpo_predictive", "predictive"), ("grpo_fitted", "fitted")],
)
def test_a_schedule_that_can_raise_no_prompt_is_a_warning(cpu_config, method, name):
    # The second one is not above the base on the grid of temperatures.
    for t_max in (1.0, 1.001):
        with pytest.warns(UserWarning, match=rf"schedule\.{name}\.t_max is {t_max:g} and t_base 1, .* ever raised"):
            check_settings(cpu_config(method, f"erpo.schedule.{name}.t_max={t_max}"))


def test_a_run_without_a_folder_is_refused_before_its_folders_are_prepared(cpu_config):
    with pytest.raises(ConfigError, match=r"trainer\.default_local_dir is not set; name a folder"):
        prepare_folders(cpu_config("grpo", "trainer.default_local_dir=null"))


def test_a_data_file_that_does_not_exist_is_named(cpu_config, tmp_path):
    present = tmp_path / "present.parquet"
    present.touch()
    check_data_files(
        cpu_config("erpo", f"data.train_files={present}", f"data.val_files=[{present},hdfs://a/b.parquet]")
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


def test_lists_of_gold_answers_are_refused_before_a_scorer_meets_them(cpu_config, tmp_path):
    rows = [
        {
            "data_source": "math_dapo",
            "prompt": [{"role": "user", "content": f"{number}+1="}],
            "reward_model": {"style": "rule", "ground_truth": [str(number + 1), "x"]},
            "extra_info": {"index": number},
        }
        for number in range(16)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    files = [f"data.{split}_files={tmp_path}/rows.parquet" for split in ("train", "val")]

    def load(*overrides):
        trainer = object.__new__(ErpoTrainerSync)
        trainer.config = cpu_config("erpo", *files, *overrides)
        trainer.erpo = check_settings(trainer.config)
        trainer.tokenizer, trainer.processor, trainer.trainer_mode = build_tokenizer(), None, "sync"
        trainer.global_steps, trainer.parameter_sync_step = 0, 1
        trainer._init_dataloader()
        return trainer

    with pytest.raises(
        ConfigError, match=r"data\.val_files, row 0: ground_truth is a list, .*; set reward\.custom_rew"
    ):
        load("reward.custom_reward_function.path=null", "erpo.ra.pseudo_reward=-1")
    assert len(load("reward.custom_reward_function.path=pkg://erpo.datasets.any_answer").train_dataset) == 16


def test_rows_with_images_are_told_apart_by_them():
    def row(image, **extra):
        content = [{"type": "image", "image": {"bytes": image}}, {"type": "text", "text": "Find x."}]
        return {
            "raw_prompt": [{"role": "user", "content": content}],
            "data_source": "geo",
            "reward_model": {"ground_truth": "2"},
            "extra_info": extra,
        }

    assert check_rows([row(b"one"), row(b"two"), row(b"one")]).prompts == 2
    picture = Image.new("RGB", (2, 2), 1), Image.new("RGB", (2, 2), 2)
    assert check_rows([row(picture[0]), row(picture[1])]).prompts == 2
    # With an id, what JSON cannot hold is not looked into.
    assert check_rows([row(object(), prompt_id="a"), row(object(), prompt_id="b")]).prompts == 2
