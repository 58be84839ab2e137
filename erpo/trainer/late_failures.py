# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of verl that fail late, hang or are silently ignored: each is found here, before anything starts."""

import inspect
import json
from collections.abc import Iterator
from pathlib import Path

from omegaconf import DictConfig, OmegaConf, open_dict
from verl.experimental.reward_loop.reward_loop import migrate_legacy_reward_impl
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils.import_utils import load_extern_type

from erpo.tracker.storage import STATE_FILE
from erpo.trainer.config import ConfigError, ErpoConfig

_MODES = ("sync", "colocate_async", "separate_async")
_RESUME_MODES = ("auto", "disable", "resume_path")
# What verl's V1 trainer never reads (0.9.1): setting, the value that changes nothing, what to do instead.
_IGNORED = (
    ("algorithm.use_pf_ppo", False, "remove it"),
    ("trainer.balance_batch", True, "remove it: batches are always balanced"),
    ("trainer.esi_redundant_time", 0, "remove it, and set trainer.save_freq to save often enough"),
    ("algorithm.filter_groups.max_num_gen_batches", 0, "set erpo.groups.refill_limit"),
)
# Of a custom replay buffer, which must call verl's own: this is where groups are observed.
_BUFFER_HOOKS = (
    "sample",
    "_terminal_eviction_reasons",
    "_evict_terminal_groups",
    "_clear_groups",
    "_materialize_batch",
)


def honour_older_keys(config: DictConfig) -> None:
    """Take settings under verl's older names for rewards over to their present ones, as verl's own start does.

    Args:
        config: The composed settings; changed in place. ``custom_reward_function``, ``reward_model`` and
            ``sandbox_fusion`` at its top are gone afterwards.
    """
    if "custom_reward_function" not in config:
        return
    with open_dict(config):
        migrate_legacy_reward_impl(config)
        function = config.reward.custom_reward_function
        if function.get("path") and not function.get("name"):
            function.name = "compute_score"


def missing_settings(config: DictConfig) -> Iterator[str]:
    """One sentence for settings that have no default and were not given."""
    missing = OmegaConf.missing_keys(config)
    if not config.reward.reward_model.enable:
        missing -= {name for name in missing if name.startswith("reward.reward_model.")}
    known = {
        "actor_rollout_ref.rollout.name": "actor_rollout_ref.rollout.name=vllm",
        "actor_rollout_ref.model.path": "actor_rollout_ref.model.path=MODEL",
    }
    if missing:
        examples = " ".join(known.get(name, f"{name}=...") for name in sorted(missing))
        hint = "" if config.trainer.device == "cpu" else ", or choose experiment=cpu_arithmetic to try it here"
        yield f"{', '.join(sorted(missing))} must be set: add {examples}{hint}."


def late_failures(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    """One sentence for each setting that would fail late, hang, or be ignored."""
    for name, harmless, advice in _IGNORED:
        value = OmegaConf.select(config, name, default=harmless)
        if value != harmless:
            yield f"{name} is {value}, which verl's V1 trainer ignores; {advice}."
    yield from _data_problems(config, erpo)
    yield from _mode_problems(config)
    yield from _resume_problems(config, erpo)
    yield from _reward_problems(config, erpo)
    yield from _sampler_problems(config)
    if OmegaConf.select(config, "actor_rollout_ref.actor.checkpoint.async_save", default=False):
        yield (
            "actor_rollout_ref.actor.checkpoint.async_save is true, but verl then names no step of an FSDP engine as "
            "the latest; set it to false."
        )
    n = config.actor_rollout_ref.rollout.n
    if n < 2 and (erpo.ra.enable or erpo.groups.drop or erpo.schedule.attaches_temperatures):
        yield f"actor_rollout_ref.rollout.n is {n}, and a group of one is never mixed; set it to 2 or more."


def _data_problems(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    data = config.data
    if not data.get("train_files"):
        yield "data.train_files is empty; name the training data."
    if not data.get("val_files"):
        yield "data.val_files is empty, and verl needs a set for validation; name one, the training data if need be."
    chunk = data.get("gen_batch_size", None)
    exact = bool(erpo.groups.drop) or config.trainer.v1.trainer_mode != "sync"
    if chunk not in (None, 1) and exact:
        yield f"data.gen_batch_size is {chunk}, which verl replaces by 1 where groups are refilled; remove it."
    elif chunk is not None and data.train_batch_size % chunk:
        yield (
            f"data.train_batch_size={data.train_batch_size} is no multiple of data.gen_batch_size={chunk}; "
            "change one of them."
        )


def _mode_problems(config: DictConfig) -> Iterator[str]:
    mode = config.trainer.v1.trainer_mode
    if mode not in _MODES:
        yield f"trainer.v1.trainer_mode is {mode!r}; set it to one of {', '.join(_MODES)}."
    if mode != "separate_async":
        return
    rollout = config.actor_rollout_ref.rollout
    steps, mini = (
        config.trainer.v1.separate_async.parameter_sync_step,
        config.actor_rollout_ref.actor.ppo_mini_batch_size,
    )
    if config.data.train_batch_size != steps * mini:
        yield (
            f"separate_async needs data.train_batch_size={config.data.train_batch_size} to be "
            f"trainer.v1.separate_async.parameter_sync_step={steps} times actor_rollout_ref.actor.ppo_mini_batch_size="
            f"{mini}; change one of them."
        )
    if not rollout.nnodes or not rollout.n_gpus_per_node:
        yield (
            "separate_async needs devices of its own for the rollout; set actor_rollout_ref.rollout.nnodes and "
            ".n_gpus_per_node."
        )
    if rollout.checkpoint_engine.backend == "naive":
        yield (
            "separate_async cannot move weights by actor_rollout_ref.rollout.checkpoint_engine.backend=naive; set "
            "it to nccl, or to another that verl has."
        )


def _resume_problems(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    trainer = config.trainer
    if trainer.resume_mode not in _RESUME_MODES:
        yield f"trainer.resume_mode is {trainer.resume_mode!r}; set it to one of {', '.join(_RESUME_MODES)}."
    checkpoint = None
    if trainer.resume_mode == "resume_path":
        path = str(trainer.resume_from_path or "").rstrip("/")
        checkpoint = Path(path).expanduser()
        step = checkpoint.name.removeprefix("global_step_")
        if not checkpoint.name.startswith("global_step_") or not step.isdigit():
            yield f"trainer.resume_from_path is {trainer.resume_from_path}; name a folder global_step_N."
        elif not checkpoint.is_dir():
            yield f"trainer.resume_from_path names {path}, which does not exist; name a checkpoint of this machine."
        # verl reads the step from what follows the last "global_step_".
        trainer.resume_from_path = path
    elif trainer.resume_mode == "auto":
        marker = Path(str(trainer.default_local_dir)).expanduser() / "latest_checkpointed_iteration.txt"
        if marker.is_file():
            checkpoint = marker.parent / f"global_step_{marker.read_text().strip()}"
    if checkpoint is not None:
        yield from _state_problems(checkpoint, erpo)


def _state_problems(checkpoint: Path, erpo: ErpoConfig) -> Iterator[str]:
    """Whether the history in a checkpoint is one of this schedule."""
    path = checkpoint / "erpo" / STATE_FILE
    if not path.is_file():
        if checkpoint.is_dir() and erpo.state.require:
            yield (
                f"{checkpoint} holds no history of prompts; set erpo.state.require=false to start from it without one."
            )
        return
    try:
        saved = json.loads(path.read_text())["settings"]["name"]
    except (ValueError, KeyError, TypeError):
        yield f"{path} is damaged; choose another checkpoint."
        return
    if saved != erpo.schedule.name and "erpo.schedule.name" not in getattr(erpo.state, "accept_changed", ()):
        yield (
            f"{checkpoint} was saved with the schedule {saved!r}, this run has {erpo.schedule.name!r}; set "
            f"erpo.schedule.name={saved}, or another trainer.default_local_dir to start anew."
        )


def _reward_problems(config: DictConfig, erpo: ErpoConfig) -> Iterator[str]:
    reward = config.reward
    if reward.reward_model.enable and not reward.reward_model.enable_resource_pool:
        yield (
            "reward.reward_model shares the trainer's devices, so rewards come after groups are observed; set "
            "reward.reward_model.enable_resource_pool=true."
        )
    buffer = OmegaConf.select(config, "reward.reward_kwargs.overlong_buffer_cfg", default=None)
    if not erpo.ra.enable or reward.reward_manager.name != "dapo" or not (buffer and buffer.get("enable")):
        return
    lowest = 1 - float(buffer.penalty_factor)
    if lowest <= erpo.ra.pseudo_reward:
        yield (
            f"an overlong correct response gets {lowest:g} (reward_kwargs.overlong_buffer_cfg.penalty_factor="
            f"{float(buffer.penalty_factor):g}), not above erpo.ra.pseudo_reward={erpo.ra.pseudo_reward:g}, so that RA "
            "would skip its group; lower the factor, or set the pseudo reward to what a wrong answer gets."
        )


def _sampler_problems(config: DictConfig) -> Iterator[str]:
    custom = OmegaConf.select(config, "trainer.v1.sampler.custom_sampler", default=None)
    if not custom or not custom.get("path") or not custom.get("name"):
        return
    where = f"trainer.v1.sampler.custom_sampler {custom.name}"
    try:
        sampler = load_extern_type(custom.path, custom.name)
    except Exception as error:
        raise ConfigError(f"{where} cannot be loaded: {error}") from error
    if not (isinstance(sampler, type) and issubclass(sampler, ReplayBuffer)):
        yield f"{where} is no subclass of verl's ReplayBuffer, which ERPO observes groups in; derive it from that."
        return
    for base in sampler.__mro__[: sampler.__mro__.index(ReplayBuffer)]:
        if base.__module__.startswith("verl."):
            continue
        for name, method in vars(base).items():
            if name == "_dapo_filtered_keys" or (name in _BUFFER_HOOKS and "super()" not in inspect.getsource(method)):
                yield f"{where} replaces {name}, where groups are observed; let it call super().{name} or remove it."
