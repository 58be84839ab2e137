# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the model of a run is there: a folder, or a name on the hub that is cached or can be reached."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from erpo.environment.attention import trains_critic
from erpo.environment.finding import Finding, Level

ACTOR = "actor_rollout_ref.model.path"
# owner/name, or the name of one of the hub's oldest models.
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_SECONDS = 8


def model_findings(config: DictConfig) -> Iterator[Finding]:
    """A finding for each model that a run loads: the actor's, and a critic's or reward model's where there is one."""
    settings = [ACTOR]
    if trains_critic(config):
        settings.append("critic.model.path")
    if config.reward.reward_model.enable:
        settings.append("reward.reward_model.model_path")
    for setting in settings:
        yield model_finding(str(OmegaConf.select(config, setting)), setting)


def model_finding(path: str, setting: str = ACTOR) -> Finding:
    """Whether a model can be loaded, without loading it.

    Args:
        path: The setting's value.
        setting: Its name.
    """
    if "://" in path:
        return Finding("model", Level.SKIPPED, f"{path} is not looked at", "")
    folder = Path(path).expanduser()
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return Finding("model", Level.OK, str(folder))
        return Finding(
            "model", Level.ERROR, f"{setting}={path} has no config.json", "name a Hugging Face model's folder"
        )
    if not _HUB_NAME.fullmatch(path):
        return Finding("model", Level.ERROR, f"{setting}={path} is not a folder on this machine", "name another folder")
    return _hub_finding(path, setting)


def _hub_finding(name: str, setting: str) -> Finding:
    from huggingface_hub import HfApi, constants, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    if isinstance(try_to_load_from_cache(name, "config.json"), str):
        return Finding("model", Level.OK, f"{name}, in the hub's cache")
    if os.environ.get("VERL_USE_MODELSCOPE", "").lower() in ("1", "true"):
        return Finding("model", Level.SKIPPED, f"{name} comes from ModelScope, which is not looked at", "")
    where = f"{setting}={name} is neither a folder nor in the hub's cache"
    if constants.HF_HUB_OFFLINE:
        return Finding("model", Level.ERROR, f"{where}, and HF_HUB_OFFLINE is set", "name a folder, or unset it")
    try:
        HfApi().model_info(name, timeout=_SECONDS)
    except GatedRepoError:
        return Finding(
            "model", Level.ERROR, f"{name} needs its licence to be accepted", "accept it, then hf auth login"
        )
    except RepositoryNotFoundError:
        return Finding("model", Level.ERROR, f"{where}, nor on the hub", "name a folder or another model")
    except HfHubHTTPError as error:
        return Finding(
            "model", Level.ERROR, f"{where}, and the hub answers {error.response.status_code}", "name a folder"
        )
    # Whichever of its libraries' errors a missing network gives.
    except Exception as error:
        return Finding(
            "model",
            Level.ERROR,
            f"{where}, and {constants.ENDPOINT} cannot be reached ({type(error).__name__})",
            "name a folder, or set HF_ENDPOINT to a mirror",
        )
    return Finding("model", Level.OK, f"{name}, on the hub")


def tokenizer_finding(path: str) -> Finding:
    """Whether the tokenizer loads and has what a rollout needs."""
    from verl.utils import hf_tokenizer

    try:
        tokenizer: Any = hf_tokenizer(path)
    # Whatever transformers raises for a folder that is none of a tokenizer.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        return Finding(
            "tokenizer", Level.ERROR, f"cannot be loaded: {reason}", "save the tokenizer in the model's folder"
        )
    if not tokenizer.chat_template:
        return Finding(
            "tokenizer",
            Level.ERROR,
            "has no chat template, so prompts cannot be formatted",
            "set actor_rollout_ref.model.custom_chat_template",
        )
    if tokenizer.eos_token_id is None:
        return Finding("tokenizer", Level.ERROR, "has no end-of-sequence token", "set it in tokenizer_config.json")
    return Finding("tokenizer", Level.OK, f"{len(tokenizer):,} tokens, responses end with {tokenizer.eos_token}")
