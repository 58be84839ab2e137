# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""For all tests: settings files are parsed once, and no test may choose the platform for those after it."""

import copy
import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from omegaconf import OmegaConf

# No example fails because the machine is busy: hypothesis allows 0.2 seconds otherwise.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

_parsed: dict[str, Any] = {}
_load = OmegaConf.load


def _load_once(file: Any) -> Any:
    """As ``OmegaConf.load``; the result is the caller's own."""
    if not hasattr(file, "read"):
        return _load(file)
    text = file.read()
    file.seek(0)
    if text not in _parsed:
        _parsed[text] = _load(file)
    return copy.deepcopy(_parsed[text])


@pytest.fixture(scope="session", autouse=True)
def parse_settings_once():
    """Hydra's configuration sources load by this: it parses thirty files at every compose, two thirds of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(_load_once))
        yield


def _platform() -> tuple[bool, dict[str, str]]:
    """Whether verl is patched for the CPU in this process, and what the environment says of platforms."""
    patches = sys.modules.get("erpo.platform.patches")
    patched = patches is not None and patches.patch_verl.cache_info().currsize > 0
    return patched, {name: value for name, value in os.environ.items() if name.startswith("VERL_")}


@pytest.fixture(scope="module", autouse=True)
def platform_left_as_it_was():
    """Choosing the CPU patches verl for good: which tests follow in a process must not matter, so use another one."""
    before = _platform()
    yield
    assert _platform() == before, "a test of this file chose the platform in the process of all tests"
