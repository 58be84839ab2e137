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
from PIL import Image
from ray.exceptions import RayTaskError
from verl.trainer.ppo.utils import need_critic, need_reference_policy
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils.config import validate_config

from erpo.tracker import PromptTracker, TrackerConfig, TrackerError
from erpo.tracker.schedules import SCHEDULES
from erpo.tracker.storage import save_state
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
    # It samples as verl's does, and writes the tags that the group log and the history are read from.
    manager = ours["actor_rollout_ref"]["rollout"]["agent"].pop("agent_loop_manager_class")
    assert manager == checks.MANAGER_CLASS
    plain["actor_rollout_ref"]["rollout"]["agent"].pop("agent_loop_manager_class", None)
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
OFF_POLICY = ["erpo.train_temperature=base", "algorithm.rollout_correction.rollout_is=token"]
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
    ("erpo", ["actor_rollout_ref.actor.calculate_sum_pi_squared=true"], "calculate_sum_pi_squared is true"),
    ("erpo", ["actor_rollout_ref.actor.strategy=torchtitan"], "strategy is torchtitan, whose engine"),
    ("erpo", ["actor_rollout_ref.ref.strategy=megatron"], r"ref\.strategy is megatron"),
    ("erpo", ["actor_rollout_ref.model.external_lib=null"], "external_lib does not name erpo.trainer.engine"),
    ("erpo", [f"{ROLLOUT}.agent.agent_loop_manager_class=null"], "nor tell of finished groups; set it to"),
    ("erpo", ["erpo.schedule.linear.t_max=0.9"], "t_max"),
    ("erpo", ["erpo.tripwire.steps=0"], "erpo.tripwire.steps is 0; set 1 or more"),
    ("erpo", ["erpo.tripwire.limit=1.5"], "erpo.tripwire.limit is 1.5; set a number between 0 and 1"),
    ("erpo", ["erpo.tripwire.limits=0.5"], "did you mean 'limit'"),
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
    # Settings that verl ignores, or that fail late.
    ("grpo", ["algorithm.use_pf_ppo=true"], "use_pf_ppo is True, which verl's V1 trainer ignores"),
    ("grpo", ["trainer.balance_batch=false"], "balance_batch is False, which .* ignores"),
    ("grpo", ["trainer.esi_redundant_time=60"], "esi_redundant_time is 60, which .* ignores"),
    ("dapo", ["algorithm.filter_groups.max_num_gen_batches=10"], "ignores; set erpo.groups.refill_limit"),
    ("dapo", ["algorithm.filter_groups.metric=seq_reward"], "told apart by erpo.accuracy.metric=null"),
    (
        "dapo",
        ["erpo.accuracy.metric=strict"],
        "metric is acc, but groups are told apart by erpo.accuracy.metric=strict",
    ),
    ("dapo", ["data.gen_batch_size=8"], "gen_batch_size is 8, which verl replaces by 1"),
    ("grpo", ["data.gen_batch_size=5"], "train_batch_size=16 is no multiple of data.gen_batch_size=5"),
    ("grpo", ["data.train_files=null"], "train_files is empty"),
    ("grpo", ["data.val_files=null"], "val_files is empty, and verl needs"),
    ("grpo", ["data.val_files=[]"], "val_files is empty, and verl needs"),
    ("grpo", ["trainer.v1.trainer_mode=async"], "trainer_mode is 'async'; set it to one of sync"),
    ("grpo", ["trainer.v1.trainer_mode=separate_async"], "parameter_sync_step=4 times"),
    (
        "grpo",
        ["trainer.v1.trainer_mode=separate_async", "trainer.v1.separate_async.parameter_sync_step=1"],
        "needs devices of its own",
    ),
    (
        "grpo",
        [
            "trainer.v1.trainer_mode=separate_async",
            "trainer.v1.separate_async.parameter_sync_step=1",
            f"{ROLLOUT}.nnodes=1",
            f"{ROLLOUT}.n_gpus_per_node=1",
        ],
        "backend=naive; set it to nccl",
    ),
    ("grpo", ["trainer.resume_mode=resume-path"], "resume_mode is 'resume-path'; set it to one of auto"),
    ("grpo", ["trainer.resume_mode=resume_path"], "resume_from_path is None; name a folder global_step_N"),
    (
        "grpo",
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=/nowhere/step_5"],
        "name a folder global_step_N",
    ),
    (
        "grpo",
        ["trainer.resume_mode=resume_path", "trainer.resume_from_path=/nowhere/global_step_5/"],
        "names /nowhere/global_step_5, which does not exist",
    ),
    ("grpo", ["reward.reward_model.enable=true", "reward.reward_model.rollout.name=vllm"], "rewards come after groups"),
    ("grpo", ["actor_rollout_ref.actor.checkpoint.async_save=true"], "async_save is true"),
    ("erpo", [f"{ROLLOUT}.n=1"], "n is 1, and a group of one is never mixed"),
    ("dapo", [f"{ROLLOUT}.n=1"], "n is 1, and a group of one is never mixed"),
    (
        "ra",
        [
            "reward.reward_manager.name=dapo",
            "reward.reward_kwargs.overlong_buffer_cfg={enable: true, penalty_factor: 1}",
        ],
        "gets 0 .* not above erpo.ra.pseudo_reward=0",
    ),
    ("grpo", ["trainer.v1.sampler.custom_sampler={path: pkg://nowhere, name: X}"], "X cannot be loaded"),
    (
        "grpo",
        ["trainer.v1.sampler.custom_sampler={path: pkg://erpo.runs, name: GroupLog}"],
        "no subclass of verl's ReplayBuffer",
    ),
    (
        "erpo",
        [*OFF_POLICY, "algorithm.rollout_correction.bypass_mode=true"],
        "bypass_mode=true corrects nothing; set it to false",
    ),
    ("erpo", [*OFF_POLICY, f"{ROLLOUT}.calculate_log_probs=false"], "set .*calculate_log_probs=true"),
    ("erpo", ["distillation.enabled=true"], "the teacher's log-probs are at T = 1"),
    ("erpo", [f"{ROLLOUT}.temperature=1.4", "erpo.schedule.linear.t_max=1.2"], "linear.t_max = 1.2 is below"),
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


@pytest.mark.parametrize(
    ("method", "overrides"),
    [
        pytest.param("grpo", [f"{ROLLOUT}.temperature=1.4"], id="hot-base-without-schedule"),
        pytest.param("dapo", [f"{ROLLOUT}.temperature=2.4"], id="base-above-every-cap"),
        pytest.param("erpo", [f"{ROLLOUT}.temperature=1.4", "erpo.schedule.linear.t_max=1.7"], id="chosen-cap-fits"),
        pytest.param("erpo_band", [f"{ROLLOUT}.temperature=1.4", "erpo.schedule.band.t_max=1.7"], id="band-fits"),
        pytest.param("grpo", ["erpo.schedule.linear.dt=0"], id="constants-of-a-schedule-that-is-not-chosen"),
    ],
)
def test_only_the_chosen_schedule_is_checked(cpu_config, method, overrides):
    check_settings(cpu_config(method, *overrides))


@pytest.mark.parametrize(
    ("override", "setting", "value"),
    [
        ("custom_reward_function.path=/my/reward.py", "reward.custom_reward_function.path", "/my/reward.py"),
        ("custom_reward_function.path=/my/reward.py", "reward.custom_reward_function.name", "compute_score"),
        ("reward_model.reward_manager=dapo", "reward.reward_manager.name", "dapo"),
        ("reward_model.reward_kwargs.max_resp_len=9", "reward.reward_kwargs.max_resp_len", 9),
        ("sandbox_fusion.url=http://here", "reward.sandbox_fusion.url", "http://here"),
    ],
)
def test_verls_older_reward_settings_are_honoured(cpu_config, override, setting, value):
    config = cpu_config("grpo", override)
    check_settings(config)
    assert OmegaConf.select(config, setting) == value


def test_missing_settings_are_named():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        config = compose("erpo_trainer")
    with pytest.raises(ConfigError, match=r"rollout\.name must be set: add actor_rollout_ref\.rollout\.name=vllm, or"):
        check_settings(config)


def test_the_step_of_a_checkpoint_may_end_in_a_slash(cpu_config, tmp_path):
    (tmp_path / "global_step_5").mkdir()
    overrides = ["trainer.resume_mode=resume_path", f"trainer.resume_from_path={tmp_path}/global_step_5/"]
    config = cpu_config("grpo", *overrides, "erpo.state.require=false")
    check_settings(config)
    assert config.trainer.resume_from_path == f"{tmp_path}/global_step_5"


def test_a_checkpoint_of_another_schedule_is_refused_before_anything_starts(cpu_config, tmp_path):
    save_state(PromptTracker(TrackerConfig(name="linear")), tmp_path / "run" / "global_step_5" / "erpo")
    (tmp_path / "run" / "latest_checkpointed_iteration.txt").write_text("5")
    with pytest.raises(ConfigError, match="was saved with the schedule 'linear', this run has 'band'"):
        check_settings(cpu_config("erpo_band"))


class ObservedSampler(ReplayBuffer):
    def sample(self, *args, **kwargs):
        return super().sample(*args, **kwargs)


class BlindSampler(ReplayBuffer):
    def sample(self, *args, **kwargs):
        raise AssertionError


@pytest.mark.parametrize(("name", "accepted"), [("ObservedSampler", True), ("BlindSampler", False)])
def test_a_custom_sampler_must_keep_the_hooks(cpu_config, name, accepted):
    config = cpu_config("grpo", f"trainer.v1.sampler.custom_sampler={{path: {__file__}, name: {name}}}")
    if accepted:
        check_settings(config)
    else:
        with pytest.raises(ConfigError, match=r"replaces sample, .* super\(\).sample"):
            check_settings(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"extra_info": '{"index": 1}'}, "row 1 .*extra_info is of type str", id="extra-info-as-text"),
        pytest.param({"reward_model": '{"ground_truth": "1"}'}, "row 1 .*reward_model is of type str", id="as-text"),
        pytest.param({"reward_model": None}, "row 1 .*reward_model has no ground_truth", id="reward-model-null"),
        pytest.param({"reward_model": {"style": "rule"}}, "row 1 .*has no ground_truth", id="no-ground-truth"),
        pytest.param({"data_source": None}, "row 1 .*data_source is null", id="data-source-null"),
        pytest.param({"raw_prompt": "[]"}, r"row 1 .*the prompt is '\[\]'", id="prompt-as-text"),
        pytest.param({"raw_prompt": []}, "row 1 .*make it a list of", id="prompt-empty"),
        pytest.param({"extra_info": {"prompt_id": 1.0}}, "row 1: extra_info.prompt_id 1.0", id="prompt-id-float"),
    ],
)
def test_a_broken_cell_is_named_by_its_row(change, message):
    good = {
        "raw_prompt": [{"role": "user", "content": "1+1"}],
        "data_source": "math",
        "reward_model": {"ground_truth": "2"},
        "extra_info": None,
    }
    with pytest.raises((ConfigError, TrackerError), match=message):
        check_rows([good, {**good, **change}])


def test_data_without_a_prompt_that_fits_are_refused():
    with pytest.raises(ConfigError, match=r"no prompt that fits; raise data\.max_prompt_length"):
        check_rows([])


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
