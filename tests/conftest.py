# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""For all tests: settings files are parsed once. Hydra parses thirty at every compose, two thirds of its time."""

import copy
from typing import Any

import pytest
from omegaconf import OmegaConf

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
    """Hydra's configuration sources load by this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OmegaConf, "load", staticmethod(_load_once))
        yield
