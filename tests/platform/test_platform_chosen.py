# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The CPU platform is there when it is asked for by name, and otherwise leaves no trace in verl."""

import os
import subprocess
import sys

import pytest
from ray.runtime_context import RuntimeContext

from erpo.platform import patches

SCRIPT = """
import importlib.metadata, torch, verl
from verl.plugin.platform import PlatformRegistry, get_platform
import verl.utils.distributed as distributed
from ray.runtime_context import RuntimeContext
print(PlatformRegistry.get("cpu") is not None, get_platform().device_name,
      getattr(importlib.metadata.version, "_erpo", False),
      hasattr(distributed.initialize_global_process_group_ray, "__wrapped__"),
      hasattr(RuntimeContext.get_job_id, "__wrapped__"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "expected"), [("cpu", "True cpu True True True"), ("nvidia", "False cuda False False False")]
)
def test_plugin_acts_only_when_chosen(platform, expected):
    environment = {**os.environ, "VERL_PLATFORM": platform, "RAY_RAYLET_PID": "1"}
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == expected


def test_two_runs_on_one_machine_use_different_sockets(monkeypatch):
    """verl puts the job id into the path of the socket through which vLLM gets its weights."""
    ids = set()
    for raylet in ("11", "12"):
        with monkeypatch.context() as patch:
            patch.setenv("RAY_RAYLET_PID", raylet)
            patch.setattr(RuntimeContext, "get_job_id", lambda self: "01000000")
            patches._job_ids_that_differ_between_clusters()
            ids.add(RuntimeContext.get_job_id(None))
    assert ids == {"01000000-11", "01000000-12"}
