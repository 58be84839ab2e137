# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Warns of public names that are on no page: autodoc leaves out what has no docstring, without a word."""

import importlib
import inspect
from collections.abc import Iterator
from typing import Any

from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

logger = logging.getLogger(__name__)


def public_names(module_name: str) -> Iterator[str]:
    """Full names of what a module exports, and of the public methods and properties of its classes."""
    module = importlib.import_module(module_name)
    for name in module.__all__:
        yield f"{module_name}.{name}"
        found = getattr(module, name)
        if inspect.isclass(found):
            for member, value in vars(found).items():
                called = inspect.isfunction(value) or isinstance(value, (property, classmethod, staticmethod))
                if called and not member.startswith("_"):
                    yield f"{module_name}.{name}.{member}"


def _check(app: Sphinx, env: BuildEnvironment) -> None:
    documented = env.domains["py"].data["objects"]
    for module in app.config.public_modules:
        for name in public_names(module):
            if name not in documented:
                logger.warning(f"{name} is public and on no page: give it a docstring and name it in docs/api.md")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the check."""
    app.add_config_value("public_modules", [], "env")
    app.connect("env-check-consistency", _check)
    return {"parallel_read_safe": True}
