# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Sampling each group at the temperature that the trainer attached to its prompt, in any agent loop."""

from typing import Any

import ray
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from erpo.trainer import ROLLOUT_TEMPERATURE

# verl exports its worker as a Ray actor class, which cannot be subclassed; this is the class inside.
_AgentLoopWorkerTQ: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class


class PerPromptTemperatureWorker(_AgentLoopWorkerTQ):
    """verl's agent-loop worker, with the sampling temperature taken from the prompt."""

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        temperature = prompt.get(ROLLOUT_TEMPERATURE)
        if temperature is not None and not trajectory["validate"]:
            sampling_params = {**sampling_params, "temperature": float(temperature)}
        await super()._run_prompt(prompt, sampling_params, trajectory, trace)


class PerPromptTemperatureManager(AgentLoopManagerTQ):
    """verl's agent-loop manager, starting the workers above.

    Set ``actor_rollout_ref.rollout.agent.agent_loop_manager_class`` to this class; every method that attaches
    temperatures does.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(PerPromptTemperatureWorker)
