# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the rollout's workers add to verl's: the prompt's temperature before, a few numbers of every response after."""

import math
from collections import defaultdict
from typing import Any

import ray
import transfer_queue as tq
from verl.experimental.agent_loop import AgentLoopOutput
from verl.trainer.ppo.v1.agent_loop_tq import AgentLoopManagerTQ, AgentLoopWorkerTQ

from erpo.trainer import PROMPT_KEY, RESPONSE_TAG, ROLLOUT_TEMPERATURE
from erpo.trainer.config import AccuracyConfig

# verl exports its worker as a Ray actor class, which cannot be subclassed; this is the class inside.
_AgentLoopWorkerTQ: Any = AgentLoopWorkerTQ.__ray_metadata__.modified_class


class ErpoAgentLoopWorker(_AgentLoopWorkerTQ):
    """verl's agent-loop worker: samples at the prompt's temperature, and tags every response with what it measured.

    The tag :data:`~erpo.trainer.RESPONSE_TAG` of a session's last output, which is the one that verl scores, holds
    what the trainer wants to know of the response, so that observing a group moves no tensor.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._accuracy = AccuracyConfig(**self.config.erpo.accuracy)
        # Tags of the groups that are being sampled: uid -> trajectory key -> tag.
        self._tags: dict[str, dict[str, dict]] = defaultdict(dict)

    async def _run_prompt(self, prompt: dict, sampling_params: dict, trajectory: dict, trace: bool = False) -> None:
        temperature = prompt.get(ROLLOUT_TEMPERATURE)
        if temperature is not None and not trajectory["validate"]:
            sampling_params = {**sampling_params, "temperature": float(temperature)}
        try:
            await super()._run_prompt(prompt, sampling_params, trajectory, trace)
        finally:
            self._tags.pop(prompt["uid"], None)

    async def _compute_score(self, outputs: list[AgentLoopOutput], kwargs: dict) -> None:
        await super()._compute_score(outputs, kwargs)
        reward = outputs[-1].reward_score
        if reward is not None and not math.isfinite(reward):
            # NaN would reach the advantages of the whole batch; the group is marked as unscored below.
            outputs[-1].reward_score = 0.0
            outputs[-1].extra_fields["unscored"] = f"the reward is {reward}"

    async def _agent_loop_postprocess(
        self, output: AgentLoopOutput | list[AgentLoopOutput], validate: bool, **kwargs: Any
    ) -> None:
        await super()._agent_loop_postprocess(output, validate, **kwargs)
        outputs = output if isinstance(output, list) else [output]
        if validate:
            return
        uid, session = kwargs["uid"], kwargs["session_id"]
        tags = self._tags[uid]
        if outputs:
            tags[f"{uid}_{session}_{len(outputs) - 1}"] = {RESPONSE_TAG: self._describe(outputs, kwargs)}
        else:
            tags[f"{uid}_{session}"] = {}  # counted only
        # One message for the group, by its last session, which ends before verl calls the group finished.
        if len(tags) == self.config.actor_rollout_ref.rollout.n:
            known = {key: tag for key, tag in tags.items() if tag}
            if known:
                await tq.async_kv_batch_put(keys=list(known), tags=list(known.values()), partition_id="train")

    def _describe(self, outputs: list[AgentLoopOutput], columns: dict[str, Any]) -> dict[str, Any]:
        """What the trainer wants to know of a session's outputs, as JSON values."""
        last = outputs[-1]
        rollout = self.config.actor_rollout_ref.rollout
        reported = last.extra_fields.get("reward_extra_info") or {}
        accuracy, problem = self._accuracy.measure(last.reward_score, reported)
        problem = last.extra_fields.get("unscored", problem)
        temperature = columns.get(ROLLOUT_TEMPERATURE)
        at_limit = len(last.response_ids) >= rollout.response_length
        return {
            "prompt": columns[PROMPT_KEY],
            "temperature": float(rollout.temperature if temperature is None else temperature),
            "reward": float(last.reward_score or 0.0),
            "accuracy": None if problem else accuracy,
            "problem": problem,
            "truncated": at_limit and last.response_ids[-1] != self.tokenizer.eos_token_id,
            # As verl's scorers of math answers say that they found none.
            "unparsed": "pred" in reported and str(reported["pred"]) in ("None", "[INVALID]"),
            # What the model wrote: tool output is masked, and every output of the session counts.
            "generated": sum(sum(one.response_mask) for one in outputs),
        }


class ErpoAgentLoopManager(AgentLoopManagerTQ):
    """verl's agent-loop manager, starting the workers above.

    Every method sets ``actor_rollout_ref.rollout.agent.agent_loop_manager_class`` to this class.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.agent_loop_workers_class = ray.remote(ErpoAgentLoopWorker)
