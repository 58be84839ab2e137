# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of two experiments, composed once."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from recipe.erpo.main_erpo import CONFIG_FOLDER


@pytest.fixture(scope="module")
def experiments():
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        return {
            name: OmegaConf.to_container(compose("erpo_trainer", overrides=[f"experiment={name}", "method=erpo"]))
            for name in ("cpu_arithmetic", "qwen2_5_7b")
        }


@pytest.fixture
def build(experiments):
    def merged(name, *settings):
        config = OmegaConf.merge(OmegaConf.create(experiments[name]), OmegaConf.from_dotlist(list(settings)))
        config.trainer.default_local_dir = "runs/x"
        return config

    return merged
