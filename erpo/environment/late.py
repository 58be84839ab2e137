# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What verl 0.9.1 or vLLM would refuse with the models loaded, in the first step, or at a step of chance."""

import importlib.util
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from erpo.environment.finding import Finding, Level

_ROLES = "actor_rollout_ref"
_FSDP = ("fsdp", "fsdp2")
# Packages that verl's loggers import; the others need none.
_LOGGER_PACKAGES = {
    "wandb": "wandb",
    "tracking": "wandb",
    "mlflow": "mlflow",
    "swanlab": "swanlab",
    "vemlp_wandb": "volcengine_ml_platform",
    "tensorboard": "tensorboard",
    "clearml": "clearml",
    "trackio": "trackio",
    "rl_insight": "rl_insight",
}
_WANDB = "https://api.wandb.ai"
_KL_ESTIMATES = ("kl", "k1", "abs", "mse", "k2", "low_var_kl", "k3")
# Their scorers run the code of the response.
_CODE_SOURCES = ("codecontests", "apps", "codeforces", "taco")


def late_findings(config: DictConfig) -> Iterator[Finding]:
    """An error for each of them; nothing where all is well.

    Args:
        config: The composed settings, which :func:`erpo.trainer.checks.check_settings` accepted.
    """
    yield from _first_prompts(config)
    yield from _batches(config)
    yield from _long_sequences(config)
    yield from _updates(config)
    yield from _model_shape(config)
    yield from _checkpoint(config)
    yield from _weight_transfer(config)
    yield from _loggers(config)
    yield from _rewards(config)


def _error(check: str, found: str, fix: str) -> Finding:
    return Finding(check, Level.ERROR, found, fix)


def _sequence_parallel(config: DictConfig, role: str) -> int:
    """GPUs that share a sequence; verl still reads the older name."""
    section = config[_ROLES][role]
    names = ("ulysses_sequence_parallel_size", "fsdp_config.ulysses_sequence_parallel_size")
    return max(int(OmegaConf.select(section, name, default=1) or 1) for name in names)


def _first_prompts(config: DictConfig) -> Iterator[Finding]:
    """What verl's loader and vLLM refuse when the first prompts come."""
    from erpo.trainer.early import MAX_TEMPERATURE
    from erpo.trainer.ignored import takes_prompts_one_by_one

    temperature = config.actor_rollout_ref.rollout.temperature
    if temperature > MAX_TEMPERATURE:
        found = f"actor_rollout_ref.rollout.temperature is {temperature:g}, and vLLM samples up to {MAX_TEMPERATURE:g}"
        yield _error("sampling", found, "lower it")
    batch, size = config.data.train_batch_size, config.data.get("gen_batch_size")
    if size and not takes_prompts_one_by_one(config) and (size < 1 or batch % size):
        found = f"data.gen_batch_size is {size}, which does not divide data.train_batch_size={batch}"
        yield _error("prompts", found, "set it to null or to a divisor")


def _batches(config: DictConfig) -> Iterator[Finding]:
    """A mini-batch is divided among the workers, and there into micro-batches of a fixed size, if not dynamic ones."""
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    if actor.strategy not in _FSDP:
        return
    gpus = config.trainer.nnodes * config.trainer.n_gpus_per_node
    parts, rest = divmod(gpus, _sequence_parallel(config, "actor"))
    if rest or not parts:
        found = f"{_sequence_parallel(config, 'actor')} GPUs share a sequence, which does not divide the {gpus} GPUs"
        yield _error("batches", found, "lower actor_rollout_ref.actor.fsdp_config.ulysses_sequence_parallel_size")
        return
    responses = actor.ppo_mini_batch_size * rollout.n
    if responses % parts:
        found = (
            f"a mini-batch has actor_rollout_ref.actor.ppo_mini_batch_size * rollout.n = {actor.ppo_mini_batch_size} * "
            f"{rollout.n} responses, which {parts} data-parallel workers do not divide"
        )
        yield _error("batches", found, "change one of the two")
        return
    if actor.use_dynamic_bsz != rollout.log_prob_use_dynamic_bsz:
        found = "actor_rollout_ref.actor.use_dynamic_bsz and rollout.log_prob_use_dynamic_bsz differ"
        yield _error("batches", found, "set them to the same value")
        return
    if actor.use_dynamic_bsz:
        return
    of_worker = responses // parts
    for name in ("actor.ppo_micro_batch_size_per_gpu", "rollout.log_prob_micro_batch_size_per_gpu"):
        size = OmegaConf.select(config, f"{_ROLES}.{name}")
        if size is None or of_worker % size:
            found = (
                f"{_ROLES}.{name} is {size}, but it has to divide the {of_worker} responses that a mini-batch has on "
                "each worker"
            )
            yield _error("batches", found, "set a divisor, or actor_rollout_ref.actor.use_dynamic_bsz=true")


def _long_sequences(config: DictConfig) -> Iterator[Finding]:
    """verl cuts a batch into micro-batches of so many tokens, and fails at the first sequence that is longer."""
    from verl.trainer.ppo.utils import need_reference_policy

    data, roles = config.data, config.actor_rollout_ref
    if roles.actor.strategy not in _FSDP:
        return
    longest = min(data.max_prompt_length + data.max_response_length, roles.rollout.get("max_model_len") or math.inf)
    limits = [
        ("actor", "use_dynamic_bsz", "ppo_max_token_len_per_gpu", "actor"),
        ("rollout", "log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu", "actor"),
    ]
    if need_reference_policy(config):
        limits.append(("ref", "log_prob_use_dynamic_bsz", "log_prob_max_token_len_per_gpu", "ref"))
    for role, dynamic, limit, engine in limits:
        tokens, gpus = roles[role][limit], _sequence_parallel(config, engine)
        if roles[role][dynamic] and tokens * gpus < longest:
            of_gpus = f" on each of {gpus} GPUs" if gpus > 1 else ""
            found = (
                f"{_ROLES}.{role}.{limit} is {tokens}{of_gpus}, but a prompt and its response have up to "
                f"{longest} tokens, and the first ones that are longer end the run"
            )
            yield _error("micro-batches", found, "raise it, or lower data.max_response_length")


def _updates(config: DictConfig) -> Iterator[Finding]:
    """Values that verl accepts and its first update refuses."""
    actor = config.actor_rollout_ref.actor
    estimates = {"algorithm.kl_penalty": bool(config.algorithm.get("use_kl_in_reward", False))}
    estimates[f"{_ROLES}.actor.kl_loss_type"] = bool(actor.use_kl_loss)
    for name, used in estimates.items():
        kind = OmegaConf.select(config, name)
        if used and str(kind).removesuffix("+") not in _KL_ESTIMATES:
            usable = ", ".join(_KL_ESTIMATES)
            yield _error("update", f"{name} is {kind}, which verl does not compute", f"set one of {usable}")
    loss = OmegaConf.select(actor, "policy_loss.loss_mode", default="vanilla")
    ratio = actor.get("clip_ratio_c")
    if loss == "vanilla" and (ratio is None or ratio <= 1):
        yield _error("update", f"{_ROLES}.actor.clip_ratio_c is {ratio}, and has to be above 1", "set it to 3.0")
    if actor.strategy in _FSDP:
        for name, example in (("clip_grad", "1.0"), ("lr_warmup_steps", "-1")):
            if OmegaConf.select(actor, f"optim.{name}") is None:
                yield _error("update", f"{_ROLES}.actor.optim.{name} is not set", f"set a number, as in {example}")


def _model_shape(config: DictConfig) -> Iterator[Finding]:
    shape = _shape(str(config.actor_rollout_ref.model.path))
    heads, positions = shape.get("num_attention_heads"), shape.get("max_position_embeddings")
    rollout = config.actor_rollout_ref.rollout
    length = rollout.get("max_model_len")
    if positions and length and length > positions:
        found = f"{_ROLES}.rollout.max_model_len is {length}, but the model has {positions} positions"
        yield _error("model", found, "lower it with data.max_response_length, or take another model")
    shared = {f"{_ROLES}.rollout.tensor_model_parallel_size": rollout.tensor_model_parallel_size}
    if config.actor_rollout_ref.actor.strategy in _FSDP:
        sequence = f"{_ROLES}.actor.fsdp_config.ulysses_sequence_parallel_size"
        size = shared[sequence] = _sequence_parallel(config, "actor")
        if size > 1 and not config.actor_rollout_ref.model.use_remove_padding:
            found = f"{_ROLES}.model.use_remove_padding is false, and GPUs that share a sequence need it"
            yield _error("model", found, "set it to true")
        pairs = shape.get("num_key_value_heads")
        if pairs and pairs % size and size % pairs:
            found = f"{sequence} is {size}, and the model has {pairs} key-value heads: neither divides the other"
            yield _error("model", found, "change it")
    for name, size in shared.items():
        if heads and heads % size:
            found = f"{name} is {size}, which does not divide the {heads} attention heads of the model"
            yield _error("model", found, "set a divisor of both these heads and the GPUs")


def _shape(path: str) -> dict[str, Any]:
    """The language model's part of a model's config.json; empty where it is not on this machine."""
    from huggingface_hub import try_to_load_from_cache

    file = Path(path).expanduser() / "config.json"
    if not file.is_file():
        try:
            cached = try_to_load_from_cache(path, "config.json")
        except ValueError:  # no name of the hub
            cached = None
        if not isinstance(cached, str):
            return {}
        file = Path(cached)
    try:
        found = json.loads(file.read_text())
    except ValueError:
        return {}
    return {**found, **(found.get("text_config") or {})}


def _checkpoint(config: DictConfig) -> Iterator[Finding]:
    """verl loads a checkpoint last of all; without its model it silently goes on from the weights of the start."""
    from erpo.trainer.folders import checkpoint_to_resume, validates_only

    folder = checkpoint_to_resume(config)
    actor, trainer = config.actor_rollout_ref.actor, config.trainer
    if folder is None or actor.strategy not in _FSDP:
        return
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    try:
        saved = json.loads((folder / "actor" / "fsdp_config.json").read_text())["world_size"]
    # Of another version of verl, which then says what it misses.
    except (OSError, ValueError, KeyError):
        saved = gpus
    if saved != gpus:
        found = (
            f"{folder} was saved by {saved} GPUs and this run has {gpus}, but verl loads it with the same number only"
        )
        yield _error("checkpoint", found, "set trainer.nnodes and trainer.n_gpus_per_node, or another folder")
    contents = OmegaConf.select(actor, "checkpoint.load_contents") or []
    if "model" not in contents and not validates_only(config):
        found = f"the run continues {folder}, but {_ROLES}.actor.checkpoint.load_contents has no model"
        yield _error("checkpoint", found, "add model, optimizer and extra")


def _weight_transfer(config: DictConfig) -> Iterator[Finding]:
    backend = config.actor_rollout_ref.rollout.checkpoint_engine.backend
    used = config.trainer.v1.trainer_mode == "separate_async" and backend == "nccl"
    if used and importlib.util.find_spec("cupy") is None:
        found = f"{_ROLES}.rollout.checkpoint_engine.backend is nccl, which needs the package cupy"
        yield _error("weights", found, "pip install cupy-cuda13x, for CUDA 13")


def _loggers(config: DictConfig) -> Iterator[Finding]:
    """verl imports the package of a logger, and logs in, when the models are loaded."""
    from erpo.environment.resources import joins

    loggers = config.trainer.logger
    names = [loggers] if isinstance(loggers, str) else list(loggers)
    for name in names:
        package = _LOGGER_PACKAGES.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            found = f"trainer.logger names {name}, whose package {package} is not installed"
            yield _error("logger", found, f"install it, or take {name} out of trainer.logger")
    # In a cluster the trainer may run on a node that has a key.
    if {"wandb", "tracking"}.intersection(names) and joins(config) is None and not _wandb_works():
        found = "trainer.logger names wandb, and this machine has no key of it"
        yield _error("logger", found, "run wandb login, set WANDB_API_KEY or WANDB_MODE=offline, or take it out")


def _wandb_works() -> bool:
    from requests.utils import get_netrc_auth

    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_MODE", "online") not in ("online", "run"):
        return True
    return get_netrc_auth(os.environ.get("WANDB_BASE_URL", _WANDB)) is not None


def _rewards(config: DictConfig) -> Iterator[Finding]:
    """Reward workers load their function when the models are loaded, and look a scorer up for every response."""
    from erpo.datasets.errors import DataError
    from erpo.datasets.rewards import load_reward_function

    reward = config.reward
    own, manager = reward.custom_reward_function, reward.reward_manager
    names = [(own.path, own.name)] if own.path else []
    if manager.source == "importlib":
        names.append((manager.module.path, manager.name))
    for path, name in names:
        try:
            load_reward_function(path, name)
        except DataError as error:
            yield _error("reward", str(error), "see reward.custom_reward_function and reward.reward_manager")
    if not names and not reward.reward_model.enable and not config.data.custom_cls.path:
        yield from _unscored_sources(config)


def _unscored_sources(config: DictConfig) -> Iterator[Finding]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from verl.utils.reward_score import default_compute_score

    for setting in ("train_files", "val_files"):
        files = config.data[setting] or []
        for file in [files] if isinstance(files, str) else files:
            path = Path(file).expanduser()
            if path.suffix != ".parquet" or not path.is_file():
                continue
            try:
                sources = pq.read_table(path, columns=["data_source"])["data_source"].unique().to_pylist()
            # No Parquet file, or no such column: the check of the rows says so.
            except (OSError, pa.ArrowException):
                continue
            for source in sources:
                if not isinstance(source, str) or source in _CODE_SOURCES:
                    continue
                try:
                    default_compute_score(source, "", "0")
                except NotImplementedError:
                    found = f"data.{setting} has the data source {source}, for which verl has no scorer"
                    yield _error("reward", found, "set reward.custom_reward_function.path, or rename it")
                except ImportError as error:
                    found = f"verl's scorer of the data source {source} cannot be loaded ({error})"
                    yield _error("reward", found, "install what is missing")
                # What a scorer makes of an empty response is of no interest here.
                except Exception:
                    continue
