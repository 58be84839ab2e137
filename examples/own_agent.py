# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""An agent loop of your own: the environment writes a part of the response; `agents.yaml` beside this file names it.

    python -m recipe.erpo.main_erpo experiment=cpu_arithmetic method=erpo \
        actor_rollout_ref.rollout.agent.agent_loop_config_path=examples/agents.yaml \
        actor_rollout_ref.rollout.agent.default_agent_loop=helped

The model of the CPU experiment writes the working of a chain of sums, as in `+3=15-8=07` for the prompt `12+3-8=`.
Here it stops at its first `=`, the loop writes the two digits that belong there, and the model goes on.

Three things make such a loop train as ERPO means it. It passes on the `sampling_params` that it is given, in every
turn: they hold the prompt's temperature. What it writes itself has the mask 0 and counts nowhere. Tokens, mask and
log-probs are of one length.
"""

from typing import Any
from uuid import uuid4

from verl.experimental.agent_loop import AgentLoopBase, AgentLoopOutput
from verl.utils.profiler import simple_timer

OPERATIONS = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


def next_value(prompt: str, working: str) -> str:
    """The two digits after the last `=` of a working, modulo 100; empty where it has none, or makes no sense."""
    value, step = prompt[:2], working[-3:]
    if len(step) < 3 or step[0] not in OPERATIONS or not (value + step[1]).isdigit() or step[2] != "=":
        return ""
    return f"{OPERATIONS[step[0]](int(value), int(step[1])) % 100:02d}"


class HelpedAgentLoop(AgentLoopBase):
    """Two turns of the model; between them the loop writes the value of the first step.

    Args:
        args: verl's.
        stop_at: Text, of one token, at which the first turn ends; from `agents.yaml`.
        kwargs: verl's.
    """

    def __init__(self, *args: Any, stop_at: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        (self._stop,) = self.tokenizer.encode(stop_at, add_special_tokens=False)

    async def run(self, sampling_params: dict[str, Any], **columns: Any) -> AgentLoopOutput:
        """Sample one response to the prompt of a data row, whose columns verl hands over."""
        messages = list(columns["raw_prompt"])
        prompt = await self.ct_build_initial_tokens(messages)
        response: list[int] = []
        mask: list[int] = []
        log_probs: list[float] = []
        metrics: dict[str, Any] = {}
        extra: dict[str, Any] = {}
        limit = self.rollout_config.response_length
        turns, request = 0, uuid4().hex
        for stop in ([self._stop], []):
            with simple_timer("generate_sequences", metrics):
                output = await self.server_manager.generate(
                    request_id=request,
                    prompt_ids=prompt + response,
                    sampling_params={**sampling_params, "stop_token_ids": stop},
                )
            turns += 1
            # The weights of the first turn and of the last: asynchronous modes ask for their age.
            extra = {**output.extra_fields, **extra, "max_global_steps": output.extra_fields.get("max_global_steps")}
            response += output.token_ids
            mask += [1] * len(output.token_ids)
            log_probs += output.log_probs or []
            if not response or response[-1] != self._stop or turns == 2:
                break
            written = next_value(messages[0]["content"], self.tokenizer.decode(response))
            given = self.tokenizer.encode(written, add_special_tokens=False)
            if not given or len(response) + len(given) >= limit:
                break
            response += given
            mask += [0] * len(given)
            log_probs += [0.0] * len(given)
        return AgentLoopOutput(
            prompt_ids=prompt,
            response_ids=response[:limit],
            response_mask=mask[:limit],
            response_logprobs=log_probs[:limit] or None,
            num_turns=2 * turns,
            metrics=metrics,
            extra_fields=extra,
        )
