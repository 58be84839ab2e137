# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What verl would find out late, with models loaded or hours into a run: found on the driver, before it starts."""

import importlib.util
import json
import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from erpo.tracker.storage import STATE_FILE
from erpo.trainer.config import ErpoConfig
from erpo.trainer.folders import checkpoint_to_resume, validates_only
from erpo.trainer.identity import accepts

# vLLM refuses higher ones, at the first request.
MAX_TEMPERATURE = 2.0
MODES = ("sync", "colocate_async", "separate_async")
RESUME_MODES = ("auto", "disable", "resume_path")
# Methods of verl's replay buffer in which groups are observed, settled and counted.
_BUFFER_HOOKS = {
    "sample",
    "_dapo_filtered_keys",
    "_evict_terminal_groups",
    "_clear_groups",
    "_materialize_batch",
    "_wait_for_next_poll",
}
# Estimators of advantages that verl has and its V1 trainer cannot run, and what they miss in the first step.
UNFED_ESTIMATORS = {
    "remax": "the rewards of greedy responses",
    "gdpo": "the single rewards (algorithm.gdpo_reward_keys)",
    "optimal_token_baseline": "the actor's sum_pi_squared",
    "tir_optimal_token_baseline": "the actor's sum_pi_squared",
}
# verl's own agent loops, and what a user extends them by.
AGENT_LOOPS = ("single_turn_agent", "tool_agent")
_AGENT_FILES = ("agent.agent_loop_config_path", "multi_turn.tool_config_path", "multi_turn.function_tool_path")
# Schedules that raise a prompt whatever its groups are.
READS_NO_GROUPS = ("constant", "rising")
# What every built-in scorer of verl gives a right answer.
_RIGHT_REWARD = 1.0


def missing_settings(config: DictConfig) -> Iterator[str]:
    """Settings without which verl cannot start."""
    for name in (
        "actor_rollout_ref.rollout.name", "actor_rollout_ref.model.path", "data.train_files",
        "trainer.default_local_dir",
    ):  # fmt: skip
        if OmegaConf.select(config, name) in (None, "", []):
            example = {"actor_rollout_ref.rollout.name": ", as in vllm"}.get(name, "")
            yield f"{name} is not set; set it{example}, or name an experiment (experiment=...)."
    unset = OmegaConf.missing_keys(config)
    # One on the trainer's own devices is refused for that, whatever else it lacks.
    used = ("reward.reward_model.enable", "reward.reward_model.enable_resource_pool")
    if not all(OmegaConf.select(config, name, default=False) for name in used):
        unset = {name for name in unset if not name.startswith("reward.reward_model.")}
    for name in sorted(unset):
        yield f"{name} is not set; set it."


def late_failures(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    """What the trainer would stumble over, each in one sentence."""
    yield from wrong_numbers(config)
    yield from _group_size(config, erpo)
    yield from _resume(config, erpo)
    yield from _reward(config, erpo)
    yield from _estimator(config)
    yield from _sampler(config)
    yield from _mode(config)
    yield from _agents(config)
    actor = config.actor_rollout_ref.actor
    if OmegaConf.select(actor, "checkpoint.async_save", default=False) and actor.strategy != "megatron":
        yield (
            f"actor_rollout_ref.actor.checkpoint.async_save is true, but verl's {actor.strategy} engine saves at once "
            "and then never names the step as the latest; set it to false."
        )


def wrong_numbers(config: DictConfig) -> Iterator[str]:
    """Settings that have to be numbers, and are none or too small."""
    for name in (
        "data.train_batch_size", "data.max_prompt_length", "data.max_response_length", "trainer.nnodes",
        "trainer.n_gpus_per_node", "trainer.total_epochs", "actor_rollout_ref.rollout.n",
        "actor_rollout_ref.rollout.val_kwargs.n", "actor_rollout_ref.actor.ppo_mini_batch_size",
    ):  # fmt: skip
        value = OmegaConf.select(config, name)
        if not _whole(value) or value < 1:
            yield f"{name} is {value}; set a whole number above 0."
    steps = config.trainer.total_training_steps
    if steps is not None and (not _whole(steps) or steps < 1):
        yield f"trainer.total_training_steps is {steps}; set a whole number above 0, or null for trainer.total_epochs."
    for name in ("trainer.save_freq", "trainer.test_freq"):
        if not _whole(OmegaConf.select(config, name)):
            yield f"{name} is {OmegaConf.select(config, name)}; set a whole number of steps, or -1 for never."
    rollout = config.actor_rollout_ref.rollout
    if not _finite(rollout.temperature) or rollout.temperature <= 0:
        yield f"actor_rollout_ref.rollout.temperature is {rollout.temperature}; set a number above 0."
    validation = rollout.val_kwargs.temperature
    if not _finite(validation) or not 0 <= validation <= MAX_TEMPERATURE:
        yield (
            f"actor_rollout_ref.rollout.val_kwargs.temperature is {validation}; set a number from 0 to "
            f"{MAX_TEMPERATURE:g}, the highest that vLLM samples at."
        )


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _group_size(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    schedule = erpo.schedule
    by_history = schedule.attaches_temperatures and schedule.section not in READS_NO_GROUPS
    if config.actor_rollout_ref.rollout.n == 1 and (erpo.ra.enable or erpo.groups.drop or by_history):
        yield (
            "actor_rollout_ref.rollout.n is 1, but a group of one response is never mixed, so that this method has "
            "nothing to act on; set it to 2 or more, or method=grpo."
        )


def _resume(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    trainer = config.trainer
    if trainer.resume_mode not in RESUME_MODES:
        yield f"trainer.resume_mode is {trainer.resume_mode}; set one of {', '.join(RESUME_MODES)}."
        return
    folder: Path | None = None
    if trainer.resume_mode == "resume_path":
        path = trainer.resume_from_path
        if not isinstance(path, str) or not re.search(r"(^|/)global_step_\d+$", path):
            yield f"trainer.resume_from_path is {path}; name a folder global_step_N, without a slash at the end."
            return
        folder = Path(path)
        if "://" not in path and not folder.is_dir():
            yield f"trainer.resume_from_path is {path}, which does not exist; name a checkpoint's folder."
    else:
        folder = checkpoint_to_resume(config)
    state = folder / "erpo" / STATE_FILE if folder is not None else None
    # A validation needs the weights only, whatever the history.
    if state is None or not state.is_file() or validates_only(config):
        return
    try:
        saved = json.loads(state.read_text())["settings"]["name"]
    except (ValueError, KeyError, TypeError):
        yield f"{state} is damaged; choose another checkpoint."
        return
    if saved != erpo.schedule.name and not accepts(erpo.state.accept_changed, "erpo.schedule.name"):
        yield (
            f"{folder} was saved with erpo.schedule.name={saved}, this run has {erpo.schedule.name}; set the same "
            "schedule, erpo.state.accept_changed=[erpo.schedule.name], or another trainer.default_local_dir."
        )


def _reward(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    reward = config.reward
    if reward.reward_model.enable and not reward.reward_model.enable_resource_pool:
        yield (
            "reward.reward_model shares the trainer's devices, so that rewards exist only after groups were observed; "
            "set reward.reward_model.enable_resource_pool=true."
        )
    own = reward.custom_reward_function.path
    if own and not _module_exists(str(own)):
        yield f"reward.custom_reward_function.path is {own}, which does not exist; name a file, or pkg:// and a module."
    yield from _reward_manager(config)
    builtin = not own and not reward.reward_model.enable
    if erpo.ra.enable and builtin and erpo.ra.pseudo_reward >= _RIGHT_REWARD:
        yield (
            f"erpo.ra.pseudo_reward is {erpo.ra.pseudo_reward:g}, and a right answer's reward is {_RIGHT_REWARD:g}; "
            "set it to the reward of a wrong answer."
        )
    where = "reward.reward_kwargs.overlong_buffer_cfg"
    overlong = OmegaConf.select(config, where)
    if not overlong or not overlong.get("enable", False):
        return
    length, limit = overlong.get("len"), OmegaConf.select(config, "reward.reward_kwargs.max_resp_len")
    if not _whole(length) or length < 1:
        yield f"{where}.len is {length}; set a number of tokens above 0, or {where}.enable=false."
    elif not _whole(limit) or limit < length:
        yield f"reward.reward_kwargs.max_resp_len is {limit}; set it to at least {where}.len, which is {length}."
    penalty = overlong.get("penalty_factor")
    if isinstance(penalty, bool) or not isinstance(penalty, int | float) or penalty < 0:
        yield f"{where}.penalty_factor is {penalty}; set 0 or a positive number."
    elif erpo.ra.enable and builtin and _RIGHT_REWARD - penalty <= erpo.ra.pseudo_reward:
        warnings.warn(
            f"a right answer at the length limit gets the reward {_RIGHT_REWARD - penalty:g}, not above "
            f"erpo.ra.pseudo_reward={erpo.ra.pseudo_reward:g}: RA skips groups with one; lower {where}.penalty_factor.",
            stacklevel=2,
        )


def _reward_manager(config: DictConfig) -> Iterator[str]:
    """verl looks it up in its reward workers, which start after the models."""
    from verl.experimental.reward_loop.reward_manager.registry import REWARD_MANAGER

    where, manager = "reward.reward_manager", config.reward.reward_manager
    # A reward function of one's own is loaded before, and may register one.
    may_register = bool(config.reward.custom_reward_function.path) or _has_own_modules(config)
    if manager.source == "importlib":
        path = OmegaConf.select(manager, "module.path")
        if not path or not _module_exists(str(path)):
            yield f"{where}.module.path is {path}, which does not exist; name a file, or pkg:// and a module."
    elif manager.source != "register":
        yield f"{where}.source is {manager.source}; set register or importlib."
    elif manager.name not in REWARD_MANAGER and not may_register:
        usable = ", ".join(REWARD_MANAGER)
        yield f"{where}.name is {manager.name}, which verl does not have; set one of {usable}."


def _module_exists(path: str) -> bool:
    """Whether there is what verl's ``load_module`` would load."""
    if not path.startswith("pkg://"):
        return Path(path.removeprefix("file://")).exists()
    try:
        return importlib.util.find_spec(path.removeprefix("pkg://").replace("/", ".")) is not None
    except (ImportError, ValueError):
        return False


def _estimator(config: DictConfig) -> Iterator[str]:
    estimator = str(config.algorithm.adv_estimator)
    if estimator in UNFED_ESTIMATORS:
        yield (
            f"algorithm.adv_estimator is {estimator}, to which verl's V1 trainer does not hand "
            f"{UNFED_ESTIMATORS[estimator]}, so that the first step would fail; set another one, as in grpo."
        )
    if estimator == "gae" and OmegaConf.select(config, "critic.enable") is False:
        yield (
            "algorithm.adv_estimator is gae, but critic.enable is false, so that the first step has no values; "
            "set critic.enable=true or another estimator."
        )


def _sampler(config: DictConfig) -> Iterator[str]:
    sampler = config.trainer.v1.sampler
    custom = sampler.get("custom_sampler") or {}
    if custom.get("path") and custom.get("name"):
        yield from _custom_sampler(custom["path"], custom["name"])
    if sampler.max_off_policy_strategy not in ("drop", "wait"):
        yield f"trainer.v1.sampler.max_off_policy_strategy is {sampler.max_off_policy_strategy}; set drop or wait."


def _custom_sampler(path: str, name: str) -> Iterator[str]:
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
    from verl.utils.import_utils import load_extern_type

    where = "trainer.v1.sampler.custom_sampler"
    try:
        sampler = load_extern_type(path, name)
    except Exception as error:
        yield f"{where} cannot be loaded ({' '.join(str(error).split())}); fix its path or name."
        return
    if not (isinstance(sampler, type) and issubclass(sampler, ReplayBuffer)):
        yield f"{where}.name is {name}, which is not a subclass of verl's ReplayBuffer; derive it from that."
        return
    for base in sampler.__mro__[: sampler.__mro__.index(ReplayBuffer)]:
        if base.__module__.startswith("verl."):
            continue
        for method in _BUFFER_HOOKS & vars(base).keys():
            called = getattr(getattr(vars(base)[method], "__code__", None), "co_names", ())
            # Ours takes the place of this one: its answer would never be asked for.
            if method == "_dapo_filtered_keys" or "super" not in called:
                advice = f"call super().{method}() in it" if method != "_dapo_filtered_keys" else "leave it out"
                yield f"{where}.name is {name}, which replaces {method}(), where groups are observed; {advice}."


def _mode(config: DictConfig) -> Iterator[str]:
    mode = config.trainer.v1.trainer_mode
    if mode not in MODES:
        yield f"trainer.v1.trainer_mode is {mode}; set one of {', '.join(MODES)}."
    if mode != "separate_async":
        return
    rollout = config.actor_rollout_ref.rollout
    batch, mini_batch = config.data.train_batch_size, config.actor_rollout_ref.actor.ppo_mini_batch_size
    sync_step = config.trainer.v1.separate_async.parameter_sync_step
    if batch != sync_step * mini_batch:
        yield (
            f"data.train_batch_size is {batch}, but separate_async needs parameter_sync_step * ppo_mini_batch_size = "
            f"{sync_step} * {mini_batch}; change one of them."
        )
    for name in ("nnodes", "n_gpus_per_node"):
        if not rollout.get(name):
            yield f"actor_rollout_ref.rollout.{name} is {rollout.get(name)}; separate_async needs devices, set it."
    if rollout.checkpoint_engine.backend == "naive":
        usable = "gloo" if config.trainer.device == "cpu" else "nccl"
        yield (
            "actor_rollout_ref.rollout.checkpoint_engine.backend is naive, which separate_async cannot use; "
            f"set it to {usable}."
        )


def _agents(config: DictConfig) -> Iterator[str]:
    """verl reads these files when its workers start, and asks for a loop by its name when it has a prompt."""
    from verl.utils.import_utils import resolve_config_path

    where, files = "actor_rollout_ref.rollout", {}
    for name in _AGENT_FILES:
        path = OmegaConf.select(config, f"{where}.{name}", default=None)
        if path is None:
            continue
        try:
            files[name] = Path(resolve_config_path(path))
        except FileNotFoundError:
            files[name] = Path(path)
        if not files[name].is_file():
            yield f"{where}.{name} is {path}, which does not exist; name a file."
            return
    known = list(AGENT_LOOPS)
    if (named := files.get(_AGENT_FILES[0])) is not None:
        try:
            loops: Any = OmegaConf.load(named)
            known += [loop["name"] for loop in loops]
        except Exception as error:
            yield (
                f"{where}.{_AGENT_FILES[0]} names {named}, which is no list of agent loops "
                f"({' '.join(str(error).split())}); give each a name and a _target_."
            )
            return
    default = config.actor_rollout_ref.rollout.agent.default_agent_loop
    if default not in known and not _has_own_modules(config):
        yield (
            f"{where}.agent.default_agent_loop is {default}, but the agent loops are {', '.join(known)}; set one of "
            f"them, or name yours in {where}.{_AGENT_FILES[0]}."
        )


def _has_own_modules(config: DictConfig) -> bool:
    """Whether modules of the user's own are imported with verl, which can register more names with it."""
    external = config.actor_rollout_ref.model.get("external_lib", None)
    modules = [external] if isinstance(external, str) else list(external or [])
    return bool(os.environ.get("VERL_USE_EXTERNAL_MODULES")) or any(not m.startswith("erpo.") for m in modules)


def unknown_names(config: DictConfig) -> Iterator[str]:
    """Names that verl looks up in the first step, or after the models are loaded."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, POLICY_LOSS_REGISTRY
    from verl.utils.tracking import Tracking

    registered = {
        "algorithm.adv_estimator": ADV_ESTIMATOR_REGISTRY,
        "actor_rollout_ref.actor.policy_loss.loss_mode": POLICY_LOSS_REGISTRY,
    }
    for setting, names in registered.items():
        name = OmegaConf.select(config, setting)
        if name not in names and not config.data.custom_cls.path and not _has_own_modules(config):
            usable = ", ".join(one for one in names if one not in UNFED_ESTIMATORS)
            yield f"{setting} is {name}, which verl does not have; set one of {usable}."
    loggers = config.trainer.logger
    for name in [loggers] if isinstance(loggers, str | None) else loggers:
        if name not in (*Tracking.supported_backend, "tracking"):
            yield f"trainer.logger names {name}, which verl does not have; use {', '.join(Tracking.supported_backend)}."
