# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Which temperature a response is sampled at, and which one its log-probs are taken at."""

import asyncio

import pytest
import torch
from tensordict import TensorDict

from erpo.trainer.agent_loop import ErpoAgentLoopWorker
from erpo.trainer.engine import response_temperatures


def sampled_at(monkeypatch, prompt, *, validate):
    """Temperature that reaches verl's own `_run_prompt`."""
    seen = {}

    async def record(self, prompt, sampling_params, trajectory, trace=False):
        seen.update(sampling_params)

    monkeypatch.setattr(ErpoAgentLoopWorker.__mro__[1], "_run_prompt", record)
    worker = object.__new__(ErpoAgentLoopWorker)
    worker._tags = {}
    shared = {"temperature": 1.0, "top_p": 1.0}
    asyncio.run(worker._run_prompt({"uid": "u", **prompt}, shared, {"validate": validate}))
    assert shared["temperature"] == 1.0  # all prompts of a batch share this dictionary
    return seen["temperature"]


def test_a_prompt_is_sampled_at_its_own_temperature(monkeypatch):
    assert sampled_at(monkeypatch, {"rollout_temperature": torch.tensor(1.25)}, validate=False) == 1.25


def test_a_prompt_without_temperature_is_sampled_at_verls(monkeypatch):
    assert sampled_at(monkeypatch, {}, validate=False) == 1.0


def test_validation_is_never_raised(monkeypatch):
    assert sampled_at(monkeypatch, {"rollout_temperature": torch.tensor(1.25)}, validate=True) == 1.0


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"rollout_temperature": [1.5, 1.5]}, [1.5, 1.5]),
        ({"rollout_temperature": [0.5, 2.0]}, [0.5, 2.0]),
        ({"rollout_temperature": [0.5, 2.0], "train_temperature": [1.0, 1.0]}, [1.0, 1.0]),
    ],
)
def test_log_probs_use_the_temperature_of_each_response(columns, expected):
    batch = TensorDict({name: torch.tensor(values) for name, values in columns.items()}, batch_size=2)
    temperatures = response_temperatures(batch)
    assert temperatures.dtype == torch.float32 and temperatures.tolist() == expected
