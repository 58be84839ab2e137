# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Which experiment a run's folder belongs to: the fingerprint of its settings, and the folder's default name."""

import fnmatch
import hashlib
import importlib.util
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from erpo.runs.settings import FINGERPRINT_FILE, LEFT_OUT, without_secrets
from erpo.trainer.config import ConfigError

logger = logging.getLogger(__name__)
logger.setLevel(os.getenv("VERL_LOGGING_LEVEL", "INFO"))

# Inside a checkpoint.
STATE_FOLDER = "erpo"

_ACTOR = "actor_rollout_ref.actor"
_ROLLOUT = "actor_rollout_ref.rollout"
_MODEL = "actor_rollout_ref.model"
# What makes an experiment; a pattern also names all that lies below it.
_MAKES = [
    "algorithm",
    *("erpo.method", "erpo.accuracy", "erpo.groups", "erpo.ra", "erpo.train_temperature", "erpo.schedule.name"),
    "data",
    *(f"{_MODEL}.{name}" for name in ("path", "hf_config_path", "tokenizer_path", "custom_chat_template")),
    *(f"{_MODEL}.{name}" for name in ("lora*", "target_modules", "exclude_modules", "override_config")),
    *(f"{_ACTOR}.{name}" for name in ("clip_ratio*", "tau_*", "policy_loss", "loss_*", "entropy_coeff", "kl_loss*")),
    *(f"{_ACTOR}.{name}" for name in ("use_kl_loss", "optim", "grad_clip", "ppo_mini_batch_size", "ppo_epochs")),
    *(f"{_ACTOR}.{name}" for name in ("shuffle", "data_loader_seed", "freeze_vision_tower")),
    *(f"{_ACTOR}.fsdp_config.{name}" for name in ("dtype", "model_dtype", "mixed_precision", "seed")),
    *(f"{_ROLLOUT}.{name}" for name in ("n", "temperature", "top_*", "min_p", "*_penalty", "do_sample", "ignore_eos")),
    *(f"{_ROLLOUT}.{name}" for name in ("seed", "dtype", "response_length", "multi_turn")),
    *(f"{_ROLLOUT}.agent.{name}" for name in ("default_agent_loop", "agent_loop_config_path")),
    *("reward", "custom_reward_function", "reward_model"),
    *("trainer.critic_warmup", "trainer.v1.trainer_mode", "trainer.v1.sampler"),
]
# Below these, but of no consequence for what is learnt: speed, memory, validation, and what verl fills in itself.
_DOES_NOT_MAKE = [
    "algorithm.filter_groups.max_*",
    *(f"data.{name}" for name in ("val_*", "validation_*", "*workers", "use_shm", "gen_batch_size", "*cache*")),
    *("data.trust_remote_code", "data.return_*"),
    f"{_MODEL}.override_config.attn_implementation",
    f"{_ACTOR}.optim.total_training_steps",
    *(f"reward.{name}" for name in ("num_workers", "reward_model.nnodes", "reward_model.n_gpus_per_node")),
    *("reward.reward_model.enable_resource_pool", "reward.reward_model.rollout", "reward.sandbox_fusion"),
    *("*._target_", "*.profiler"),
]
_DATA = ("data.train_files", "data.train_max_samples")
# Settings that name a file of the user's own, which counts with its content, and the name under which it does.
_CONTENTS = {
    "reward.custom_reward_function.path": "reward.custom_reward_function.content",
    "erpo.schedule.path": "erpo.schedule.content",
    f"{_ROLLOUT}.agent.agent_loop_config_path": f"{_ROLLOUT}.agent.agent_loop_config_content",
    f"{_ROLLOUT}.multi_turn.tool_config_path": f"{_ROLLOUT}.multi_turn.tool_config_content",
    f"{_ROLLOUT}.multi_turn.function_tool_path": f"{_ROLLOUT}.multi_turn.function_tool_content",
}
_PACKAGE = "pkg://"


def fingerprint(config: DictConfig) -> dict[str, Any]:
    """What makes the experiment of these settings: setting -> value, plain JSON, sorted by name.

    A file of the user's own (reward function, schedule, tools, agent loops) counts with its content, a YAML file
    also with the files of the classes that it names; what those import does not count.
    """
    makes = [*_MAKES]
    schedule = OmegaConf.select(config, "erpo.schedule.name", default=None)
    own = OmegaConf.select(config, "erpo.schedule.path", default=None) is not None
    makes += ["erpo.schedule.path", "erpo.schedule.own"] if own else [f"erpo.schedule.{schedule}"]
    mode = OmegaConf.select(config, "trainer.v1.trainer_mode", default=None)
    makes += [f"trainer.v1.{mode}.{name}" for name in ("parameter_sync_step", "num_warmup_batches")]
    if OmegaConf.select(config, "critic.enable", default=None) is not False:
        makes += [f"critic.{name}" for name in ("enable", "optim", "cliprange_value", "ppo_*", "loss_*", "grad_clip")]
    if OmegaConf.select(config, "distillation.enabled", default=False):
        makes += ["distillation.distillation_loss", "distillation.teacher_models.*.model_path"]
    made_of = _matcher(makes)
    settings = dict(_leaves(config, lambda name: bool(made_of(name)) and not _NO_PART(name)))
    files = settings.get("data.train_files")
    if isinstance(files, str):
        settings["data.train_files"] = [files]
    for setting, content in _CONTENTS.items():
        file = _file_of(OmegaConf.select(config, setting, default=None))
        if file is not None:
            files = [file, *_files_of_classes(file)]
            settings[content] = hashlib.sha256(b"".join(one.read_bytes() for one in files)).hexdigest()[:12]
    return {name: without_secrets({name.rsplit(".", 1)[-1]: settings[name]}).popitem()[1] for name in sorted(settings)}


def _files_of_classes(file: Path) -> Iterator[Path]:
    """Files of the classes that verl's list of tools or of agent loops names, where this machine sees them."""
    if file.suffix not in (".yaml", ".yml"):
        return
    for name in re.findall(r"\b(?:class_name|_target_):\s*[\"']?([\w.]+)", file.read_text()):
        module = _file_of(_PACKAGE + name.rpartition(".")[0])
        if module is not None:
            yield module


def _file_of(path: str | None) -> Path | None:
    """File of a path as verl takes it: a file, or ``pkg://module``; None where this machine does not see it."""
    if path and path.startswith(_PACKAGE):
        try:
            spec = importlib.util.find_spec(path.removeprefix(_PACKAGE))
        except (ImportError, ValueError):
            return None
        path = spec.origin if spec is not None else None
    if not path or "://" in path or not Path(path).expanduser().is_file():
        return None
    return Path(path).expanduser()


def digest(settings: Mapping[str, Any]) -> str:
    """Eight hexadecimal digits of settings."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]


def to_file(settings: Mapping[str, Any]) -> str:
    """Content of a fingerprint's file."""
    return json.dumps({"digest": digest(settings), "settings": settings}, indent=2, sort_keys=True) + "\n"


def changes(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Settings whose values differ: name -> (saved, now), None for one that is not set."""
    changed = {}
    for name in sorted({*saved, *now}):
        values = (saved.get(name), now.get(name))
        # A machine that does not see a file cannot tell whether it changed.
        unknown = LEFT_OUT in values or (name in _CONTENTS.values() and None in values)
        if values[0] != values[1] and not unknown:
            changed[name] = values
    return changed


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The changes that a user is asked about: another schedule's constants come with its name."""
    changed = changes(saved, now)
    if "erpo.schedule.name" in changed:
        changed = {
            name: values
            for name, values in changed.items()
            if name == "erpo.schedule.name" or not name.startswith("erpo.schedule.")
        }
    return changed


def accepts(patterns: Sequence[str], name: str) -> bool:
    """Whether a difference in a setting is accepted: a pattern is a name, a prefix of it, or has wildcards."""
    return bool(patterns) and bool(_matcher(patterns)(name))


def check_identity(config: DictConfig, run_folder: Path, checkpoint: Path | None) -> None:
    """Check that a run's folder, and the checkpoint that it goes on from, belong to this experiment.

    Args:
        config: The settings; ``erpo.state`` names the differences that are accepted.
        run_folder: Folder of the run, which may not exist yet.
        checkpoint: The folder ``global_step_N`` to go on from, None to start from scratch.

    Raises:
        ConfigError: They belong to another; the message lists what differs.
    """
    now = fingerprint(config)
    accepted = list(OmegaConf.select(config, "erpo.state.accept_changed", default=None) or [])
    if OmegaConf.select(config, "erpo.state.accept_changed_data", default=False):
        accepted += _DATA
    files = [run_folder / FINGERPRINT_FILE]
    if checkpoint is not None:
        files.insert(0, checkpoint / STATE_FOLDER / FINGERPRINT_FILE)
        if checkpoint.is_dir() and not files[0].exists():
            logger.warning(f"{checkpoint} has no fingerprint, so that its settings cannot be compared with this run's.")
    for file in files:
        if file.exists():
            _check(file, now, accepted)


def _check(file: Path, now: Mapping[str, Any], accepted: Sequence[str]) -> None:
    try:
        saved = json.loads(file.read_text())["settings"]
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"{file} is damaged; restore it, or remove it to go on without the comparison.") from None
    # As JSON has them: a tuple is a list there.
    refused = {
        name: values
        for name, values in differences(saved, json.loads(json.dumps(now))).items()
        if not accepts(accepted, name)
    }
    if refused:
        shown = [f"{name}: {_show(old)} -> {_show(new)}" for name, (old, new) in list(refused.items())[:20]]
        more = f" and {len(refused) - 20} more" if len(refused) > 20 else ""
        where = file.parent.parent if file.parent.name == STATE_FOLDER else file.parent
        raise ConfigError(
            f"{where} belongs to another experiment ({'; '.join(shown)}{more}); set another trainer.default_local_dir, "
            f"or accept the differences with erpo.state.accept_changed=[{','.join(refused)}]."
        )


def _show(value: Any) -> str:
    text = "not set" if value is None else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _leaves(node: DictConfig, wanted: Callable[[str], bool], where: str = "") -> Iterator[tuple[str, Any]]:
    """The wanted settings below a node that have a value, by their full names."""
    for key in node:
        name = f"{where}.{key!s}" if where else str(key)
        # Resolving is slow, and the folder's default name depends on the fingerprint: only what is wanted is resolved.
        if OmegaConf.is_interpolation(node, str(key)) and not wanted(name):
            continue
        try:
            value = node[key]
        except OmegaConfBaseException:
            # Missing, or refers to what is.
            continue
        if isinstance(value, DictConfig):
            yield from _leaves(value, wanted, name)
        elif value is not None and wanted(name):
            yield name, OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else value


def _matcher(patterns: Sequence[str]) -> Callable[[str], Any]:
    """Tells whether a name, or a part of the settings that it lies in, matches one of the patterns."""
    # Without the end of the string that the translation asks for.
    either = "|".join(fnmatch.translate(pattern)[:-2] for pattern in patterns)
    return re.compile(rf"(?:{either})(?:\.|$)").match


_NO_PART = _matcher(_DOES_NOT_MAKE)
