# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Which attention a run takes: flash_attention_2 where it can be imported, else PyTorch's own (sdpa)."""

import importlib
import warnings

from omegaconf import DictConfig, OmegaConf, open_dict

from erpo.environment.finding import Finding, Level

SETTING = "actor_rollout_ref.model.override_config.attn_implementation"
FLASH = "flash_attention_2"
# verl's default where nothing is set, for these engines.
_ENGINES = ("fsdp", "fsdp2")
INSTALL = (
    'pip install --no-build-isolation "verl[flash-attn-cu130torch211]==0.9.1", which needs nvcc and 40 to 90 minutes'
)


def flash_problem() -> str | None:
    """Why flash-attn cannot be imported, in a few words; None where it can."""
    try:
        importlib.import_module("flash_attn")
    except ModuleNotFoundError as error:
        if error.name == "flash_attn":
            return "flash-attn is not installed"
        return f"flash-attn cannot be imported (No module named {error.name!r})"
    # A build for another torch fails with an ImportError, one for another machine with an OSError.
    except Exception as error:
        return f"flash-attn cannot be imported ({(str(error).splitlines() or [type(error).__name__])[0]})"
    return None


def choose_attention(config: DictConfig) -> str | None:
    """Set sdpa where nothing is set and flash-attn cannot be imported.

    Args:
        config: The composed settings; changed in place.

    Returns:
        One line for the terminal; None where nothing was to be chosen.
    """
    if not _undecided(config):
        return None
    problem = flash_problem()
    if problem is None:
        return f"attention: {FLASH}"
    with open_dict(config):
        OmegaConf.update(config, SETTING, "sdpa", force_add=True)
    line = f"attention: sdpa, because {problem}"
    if not own_log_probs(config) and not config.actor_rollout_ref.model.get("use_fused_kernels"):
        # verl 0.9.1, logprobs_from_logits_v2: one call for each token of packed sequences. docs/gpu.md has the seconds.
        line += "; verl's own log-probs, which this method takes, then loop over the tokens and are many times as slow"
    return line


def attention_finding(config: DictConfig) -> Finding:
    """Whether the run's attention can be imported, and works with its sequence parallelism."""
    check, problem = "attention", None
    chosen = OmegaConf.select(config, SETTING, default=None)
    if _undecided(config) or chosen == FLASH:
        problem = flash_problem()
    if chosen == FLASH and problem is not None:
        return Finding(check, Level.ERROR, f"{SETTING}={FLASH}, but {problem}", "set it to sdpa, or remove it")
    name = chosen or (FLASH if problem is None else "sdpa")
    shared = _shared_sequences(config)
    if config.trainer.device == "cuda" and shared and not str(name).startswith("flash_attention"):
        # verl 0.9.1 patches transformers' flash attention alone to gather the slices (models/transformers).
        return Finding(
            check,
            Level.ERROR,
            f"with {' and '.join(shared)} above 1 {name} would see a slice of each sequence only",
            f"install flash-attn ({INSTALL}), or set {' '.join(f'{setting}=1' for setting in shared)}",
        )
    # verl 0.9.1 loads a value head with flash attention (utils/model.py), whatever attn_implementation is set to.
    flash_critic = trains_critic(config) and config.critic.strategy in _ENGINES and config.trainer.device != "npu"
    if flash_critic and (reason := flash_problem()) is not None:
        return Finding(
            check,
            Level.ERROR,
            f"verl always loads a critic with {FLASH}, but {reason}",
            f"install flash-attn ({INSTALL}), or set critic.enable=false and another algorithm.adv_estimator than gae",
        )
    if problem is not None:
        return Finding(check, Level.WARNING, f"sdpa, because {problem}", f"for more speed: {INSTALL}")
    return Finding(check, Level.OK, str(name))


def own_log_probs(config: DictConfig) -> bool:
    """Whether ERPO's engine computes the log-probs, and not verl's."""
    return "erpo.trainer.engine" in str(config.actor_rollout_ref.model.get("external_lib"))


def trains_critic(config: DictConfig) -> bool:
    """verl's need_critic, which warns where it finds none."""
    from verl.trainer.ppo.utils import need_critic

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bool(need_critic(config))


def _undecided(config: DictConfig) -> bool:
    """Whether verl would take its default, flash-attn, for a run on GPUs."""
    unset = OmegaConf.select(config, SETTING, default=None) is None
    return unset and config.trainer.device == "cuda" and config.actor_rollout_ref.actor.strategy in _ENGINES


def _shared_sequences(config: DictConfig) -> list[str]:
    """The settings by which several GPUs share a sequence."""
    if config.actor_rollout_ref.actor.strategy not in _ENGINES:
        return []
    roles = ["actor_rollout_ref.actor", "actor_rollout_ref.ref", *(["critic"] if trains_critic(config) else [])]
    names = [
        f"{role}{section}.ulysses_sequence_parallel_size"
        for role in roles
        for section in ("", ".fsdp" if role == "critic" else ".fsdp_config")
    ]
    return [name for name in names if OmegaConf.select(config, name, default=1) > 1]
