# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Composed experiments, as training composes them."""

import functools

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from recipe.erpo.main_erpo import CONFIG_FOLDER


@functools.cache
def _composed(overrides: tuple[str, ...]) -> DictConfig:
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return compose("erpo_trainer", overrides=list(overrides))


@pytest.fixture(scope="session")
def composed():
    """Settings composed from overrides; a copy, and composed once."""
    return lambda *overrides: _composed(overrides).copy()
