# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Composed settings, without Ray."""

import copy
import functools

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from recipe.erpo.main_erpo import CONFIG_FOLDER


@functools.cache
def _composed(method: str) -> DictConfig:
    # Hydra needs a second for verl's tree, and the tests need it a hundred times.
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return compose("erpo_trainer", overrides=["experiment=cpu_arithmetic", f"method={method}"])


@pytest.fixture
def cpu_config(tmp_path):
    """Settings of a method on the CPU experiment, with overrides and a run folder of the test's own."""

    def build(method: str, *overrides: str) -> DictConfig:
        config = copy.deepcopy(_composed(method))
        OmegaConf.set_struct(config, False)
        return OmegaConf.merge(
            config, OmegaConf.from_dotlist([f"trainer.default_local_dir={tmp_path}/run", *overrides])
        )

    return build
