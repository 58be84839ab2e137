# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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
