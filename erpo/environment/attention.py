# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Which attention a run takes: flash_attention_2 where it can be imported, else PyTorch's own (sdpa)."""

import importlib

from omegaconf import DictConfig, OmegaConf, open_dict

from erpo.environment.finding import Finding, Level

SETTING = "actor_rollout_ref.model.override_config.attn_implementation"
FLASH = "flash_attention_2"
# verl's default where nothing is set, for these engines.
_ENGINES = ("fsdp", "fsdp2")
INSTALL = 'pip install --no-build-isolation "verl[flash-attn-cu130torch211]==0.9.1", which needs nvcc and builds long'


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
    if not _open(config):
        return None
    problem = flash_problem()
    if problem is None:
        return f"attention: {FLASH}"
    with open_dict(config):
        OmegaConf.update(config, SETTING, "sdpa", force_add=True)
    return f"attention: sdpa, because {problem}"


def attention_finding(config: DictConfig) -> Finding:
    """Whether the run's attention can be imported."""
    chosen = OmegaConf.select(config, SETTING, default=None)
    if _open(config):
        problem = flash_problem()
        if problem is None:
            return Finding("attention", Level.OK, FLASH)
        return Finding("attention", Level.WARNING, f"sdpa, because {problem}", f"for more speed: {INSTALL}")
    if chosen == FLASH:
        problem = flash_problem()
        if problem is not None:
            return Finding(
                "attention", Level.ERROR, f"{SETTING}={FLASH}, but {problem}", "set it to sdpa, or remove it"
            )
    return Finding("attention", Level.OK, str(chosen or f"of {config.actor_rollout_ref.actor.strategy}"))


def _open(config: DictConfig) -> bool:
    """Whether verl would take its default, flash-attn, for a run on GPUs."""
    unset = OmegaConf.select(config, SETTING, default=None) is None
    return unset and config.trainer.device == "cuda" and config.actor_rollout_ref.actor.strategy in _ENGINES
