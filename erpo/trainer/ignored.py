# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings that verl 0.9.1 accepts and its V1 trainer never reads: refused, so that nobody relies on them."""

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, OmegaConf

from erpo.trainer.config import ErpoConfig

# verl's spelling before its section `reward`; its migration of them is not called by the V1 trainer.
_OLD_SECTIONS = ("custom_reward_function", "reward_model", "sandbox_fusion")
_NEW_NAMES = {
    "reward_model.num_workers": "reward.num_workers",
    "reward_model.reward_manager": "reward.reward_manager.name",
    "reward_model.reward_loop_source": "reward.reward_manager.source",
    "reward_model.reward_loop_module_path": "reward.reward_manager.module.path",
    "reward_model.reward_loop_class_name": "reward.reward_manager.module.name",
    "reward_model.model.path": "reward.reward_model.model_path",
    "reward_model.reward_kwargs": "reward.reward_kwargs",
}
# Setting: (verl's default, what to do instead).
_UNREAD: dict[str, tuple[Any, str]] = {
    "algorithm.use_pf_ppo": (False, "remove it"),
    "trainer.balance_batch": (True, "remove it: batches are always balanced"),
    "algorithm.filter_groups.max_num_gen_batches": (0, "set erpo.groups.refill_limit instead"),
    "data.return_raw_input_ids": (False, "remove it"),
    "data.return_full_prompt": (False, "remove it"),
    "data.return_raw_chat": (True, "remove it"),
    "data.reward_fn_key": ("data_source", "name the column data_source"),
    "trainer.esi_redundant_time": (0, "remove it"),
    "trainer.ray_wait_register_center_timeout": (300, "remove it"),
    "trainer.use_legacy_worker_impl": (None, "remove it"),
    "actor_rollout_ref.actor.grad_clip": (1.0, "set actor_rollout_ref.actor.optim.clip_grad instead"),
    "critic.grad_clip": (1.0, "set critic.optim.clip_grad instead"),
    "actor_rollout_ref.actor.freeze_vision_tower": (False, "remove it: all weights are trained"),
    "actor_rollout_ref.rollout.over_sample_rate": (0, "remove it"),
    "actor_rollout_ref.rollout.multi_turn.num_repeat_rollouts": (None, "set actor_rollout_ref.rollout.n instead"),
    "actor_rollout_ref.nccl_timeout": (600, "remove it"),
    "critic.nccl_timeout": (600, "remove it"),
}


def ignored_settings(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    """Settings that would have no effect, each in one sentence that names the one to set."""
    for section in _OLD_SECTIONS:
        for name in _leaves(config.get(section), section):
            new = next(
                (_NEW_NAMES[old] + name[len(old) :] for old in _NEW_NAMES if _below(name, old)), f"reward.{name}"
            )
            yield f"{name} is verl's older spelling, which its V1 trainer ignores; set {new} instead."
    for name, (default, advice) in _UNREAD.items():
        value = OmegaConf.select(config, name)
        if value is not None and value != default:
            yield f"{name} is {value}, but verl's V1 trainer ignores it; {advice}."
    algorithm = config.algorithm
    if algorithm.adv_estimator == "grpo_vectorized" and not algorithm.get("norm_adv_by_std_in_grpo", True):
        yield (
            "algorithm.norm_adv_by_std_in_grpo is false, but verl's V1 trainer passes it to grpo only, and "
            "grpo_vectorized divides by the standard deviation; set algorithm.adv_estimator=grpo or remove it."
        )
    yield from _ignored_by_filter(config, erpo)
    yield from _ignored_by_reward(config)
    yield from _ignored_by_sampling(config.actor_rollout_ref.rollout)


def takes_prompts_one_by_one(config: DictConfig) -> bool:
    """Whether verl fetches single prompts, because its refill must be exact."""
    filtered = bool(OmegaConf.select(config, "algorithm.filter_groups.enable", default=False))
    v1 = config.trainer.v1
    return filtered or v1.trainer_mode != "sync" or bool(v1.sampler.sync_refill_failed_groups)


def _ignored_by_filter(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    groups = config.algorithm.get("filter_groups") or {}
    filtered = bool(groups.get("enable", False))
    size = config.data.get("gen_batch_size")
    if takes_prompts_one_by_one(config) and size not in (None, 1):
        yield f"data.gen_batch_size is {size}, but this method takes prompts one by one; set it to null."
    metric, judged_by = groups.get("metric"), erpo.accuracy.metric or "acc"
    # "acc" stands in our method files, where verl demands a name.
    if filtered and metric not in (judged_by, "acc", None):
        yield (
            f"algorithm.filter_groups.metric is {metric}, but groups are judged by erpo.accuracy.metric ({judged_by}); "
            f"set erpo.accuracy.metric={metric} and algorithm.filter_groups.metric=acc."
        )


def _ignored_by_reward(config: DictConfig) -> Iterator[str]:
    overlong = OmegaConf.select(config, "reward.reward_kwargs.overlong_buffer_cfg.enable", default=False)
    manager = config.reward.reward_manager
    if overlong and manager.source == "register" and manager.name != "dapo":
        yield (
            f"reward.reward_kwargs.overlong_buffer_cfg is enabled, but the reward manager {manager.name} ignores it; "
            "set reward.reward_manager.name=dapo or disable it."
        )
    trainer = config.trainer
    if trainer.resume_from_path and trainer.resume_mode != "resume_path":
        yield (
            f"trainer.resume_from_path is set, but trainer.resume_mode={trainer.resume_mode} ignores it; "
            "set trainer.resume_mode=resume_path or remove the path."
        )
    sampler = trainer.v1.sampler.get("custom_sampler") or {}
    if bool(sampler.get("path")) != bool(sampler.get("name")):
        yield "trainer.v1.sampler.custom_sampler needs path and name, one alone is ignored; set both or none."


def _ignored_by_sampling(rollout: DictConfig) -> Iterator[str]:
    where = "actor_rollout_ref.rollout"
    if not rollout.do_sample:
        yield f"{where}.do_sample is false, but verl's V1 trainer samples all the same; set it to true."
    validation = rollout.val_kwargs
    if not validation.do_sample and validation.temperature != 0:
        yield (
            f"{where}.val_kwargs.do_sample is false, but verl's V1 trainer validates at val_kwargs.temperature, which "
            f"is {validation.temperature}; set that to 0, or val_kwargs.do_sample=true."
        )


def _below(name: str, section: str) -> bool:
    return name == section or name.startswith(f"{section}.")


def _leaves(node: Any, name: str) -> Iterator[str]:
    """Names of the settings under a node that are not null."""
    if isinstance(node, DictConfig):
        for key in node:
            yield from _leaves(node.get(key), f"{name}.{key!s}")
    elif node is not None:
        yield name
