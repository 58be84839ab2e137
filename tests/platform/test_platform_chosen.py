# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The CPU platform is there when it is asked for by name, and otherwise leaves no trace in verl."""

import functools
import os
import subprocess
import sys

import hydra
import numpy as np
import pytest
from ray.runtime_context import RuntimeContext
from verl.experimental.agent_loop import agent_loop
from verl.trainer.ppo import metric_utils

from erpo.platform import patches

SCRIPT = """
import importlib.metadata, torch, types, verl
from verl.plugin.platform import PlatformRegistry, get_platform
import verl.utils.distributed as distributed
import verl.trainer.ppo.metric_utils as metric_utils
from verl.experimental.agent_loop import agent_loop
from ray.runtime_context import RuntimeContext
print(PlatformRegistry.get("cpu") is not None, get_platform().device_name,
      getattr(importlib.metadata.version, "_erpo", False),
      hasattr(distributed.initialize_global_process_group_ray, "__wrapped__"),
      hasattr(RuntimeContext.get_job_id, "__wrapped__"),
      hasattr(metric_utils.bootstrap_metric, "__wrapped__"), isinstance(agent_loop.hydra, types.SimpleNamespace))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "platform", "expected"),
    [
        ("verl", "cpu", "True cpu True True True True True"),
        # verl imports its plug-in while ours waits for verl.
        ("erpo.platform.cpu", "cpu", "True cpu True True True True True"),
        ("erpo.platform.verl_plugin", "cpu", "True cpu True True True True True"),
        ("verl", "nvidia", "False cuda False False False False False"),
    ],
)
def test_plugin_acts_only_when_chosen(first, platform, expected):
    """Whichever of verl and our modules a process imports first."""
    environment = {**os.environ, "VERL_PLATFORM": platform, "RAY_RAYLET_PID": "1"}
    script = f"import {first}\n{SCRIPT}"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == expected


@pytest.mark.slow
def test_a_choice_after_verl_was_imported_does_the_same():
    """As main_erpo does it: hydra imports verl before the experiment can choose."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VERL_")}
    late = "import verl\nfrom erpo.platform.cpu import activate\nactivate()\nactivate()\n"
    result = subprocess.run(
        [sys.executable, "-c", late + SCRIPT],
        capture_output=True,
        text=True,
        env=environment | {"RAY_RAYLET_PID": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "True cpu True True True True True"


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


def test_best_of_k_is_the_same_in_one_piece(monkeypatch):
    original = metric_utils.bootstrap_metric
    monkeypatch.setattr(metric_utils, "bootstrap_metric", getattr(original, "__wrapped__", original))
    responses = [0.0, 1.0, 0.25, 1.0, 0.0, 0.75, 0.0, 0.5]
    votes = [{"val": value, "pred": str(value)} for value in responses]
    vote = functools.partial(metric_utils.calc_maj_val, vote_key="pred", val_key="val")
    cases = [(responses, k, [np.max, np.min]) for k in (2, 4, 8)] + [(votes, 4, [vote]), ([1.0], 2, [np.min])]
    expected = [metric_utils.bootstrap_metric(*case) for case in cases]
    patches._best_of_k_in_one_piece(metric_utils)
    assert hasattr(metric_utils.bootstrap_metric, "__wrapped__")
    assert [metric_utils.bootstrap_metric(*case) for case in cases] == expected


class Loop:
    """Stands for an agent loop: keeps what it is made of."""

    def __init__(self, **arguments):
        self.arguments = arguments


def test_agent_loops_are_made_of_the_same_arguments_without_hydra(monkeypatch):
    monkeypatch.setattr(agent_loop, "hydra", hydra)
    for _ in range(2):  # A second call does no harm.
        patches._agent_loops_without_hydra(agent_loop)
    tokenizer, target = object(), {"_target_": f"{__name__}.Loop"}
    made = agent_loop.hydra.utils.instantiate(config=target, tokenizer=tokenizer)
    assert type(made).__name__ == "Loop" and made.arguments["tokenizer"] is tokenizer
    # Settings of its own are hydra's business, nested objects included.
    made = agent_loop.hydra.utils.instantiate(config={**target, "other": target}, number=1)
    assert made.arguments["number"] == 1 and type(made.arguments["other"]).__name__ == "Loop"
