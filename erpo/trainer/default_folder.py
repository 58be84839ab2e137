# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The default name of a run's folder: experiment, method, and a digest of what was overridden.

The same command finds its folder again; another one has another. In the settings it is the resolver ``erpo_changes``.
"""

from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

_ROOT = Path(__file__).parents[2]
# The settings lie at the root of a checkout, and inside the package of the recipe in an installed wheel.
_PACKAGED = _ROOT / "recipe" / "erpo" / "configs"
CONFIG_FOLDER = _PACKAGED if _PACKAGED.is_dir() else _ROOT / "configs"

_composing: list[bool] = []


def register() -> None:
    """Make the resolver known to OmegaConf."""
    OmegaConf.register_new_resolver("erpo_changes", changes_suffix, replace=True)


def changes_suffix(*named: str, _root_: DictConfig) -> str:
    """A dash and a digest of the overridden settings that make the experiment; nothing where there are none.

    Args:
        named: Settings that the folder's name spells out itself.
        _root_: The composed settings.
    """
    from erpo.trainer.identity import changes, digest, fingerprint

    # OmegaConf asks while it merges a value over this one; inside our own composition nobody reads the answer.
    if _composing:
        return ""
    now = fingerprint(_root_)
    plain = _plain_fingerprint(*_choices(_root_))
    changed = {name: new for name, (_, new) in changes(plain, now).items() if name not in named}
    return f"-{digest(changed)}" if changed else ""


def _choices(root: DictConfig) -> tuple[str | None, str | None]:
    """Names of experiment and method."""
    from hydra.core.hydra_config import HydraConfig

    if HydraConfig.initialized():
        choices = HydraConfig.get().runtime.choices
        return choices.get("experiment"), choices.get("method")
    # Composed without Hydra's command line: our experiments bear the names of their projects.
    return OmegaConf.select(root, "trainer.project_name"), OmegaConf.select(root, "erpo.method")


@cache
def _plain_fingerprint(experiment: str | None, method: str | None) -> dict[str, Any]:
    """Fingerprint of an experiment and method without further settings; empty where there are none of these names."""
    from hydra._internal.config_loader_impl import ConfigLoaderImpl
    from hydra._internal.utils import create_config_search_path
    from hydra.errors import HydraException
    from hydra.types import RunMode

    from erpo.trainer.identity import fingerprint

    overrides = [f"{group}={name}" for group, name in (("experiment", experiment), ("method", method)) if name]
    _composing.append(True)
    try:
        loader = ConfigLoaderImpl(config_search_path=create_config_search_path(str(CONFIG_FOLDER)))
        return fingerprint(loader.load_configuration("erpo_trainer", overrides, run_mode=RunMode.RUN))
    except HydraException:
        return {}
    finally:
        _composing.pop()
