# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Writes down what a real run does, without changing it: what vLLM was asked for, and every trained token.

verl imports this module in every process of a run that is started with ``VERL_USE_EXTERNAL_MODULES=recorder`` and this
folder on ``PYTHONPATH``. ``ERPO_RECORDS`` names the folder of the records.
"""

import functools
import json
import os
from pathlib import Path
from typing import Any

import wrapt

TOKENS = ["prompts", "responses", "response_mask", "rollout_log_probs", "old_log_probs", "rollout_temperature"]


def environment(records: Path) -> dict[str, str]:
    """Environment variables of a run that is to be recorded."""
    records.mkdir(parents=True, exist_ok=True)
    return {
        "VERL_USE_EXTERNAL_MODULES": "recorder",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")])),
        "ERPO_RECORDS": str(records),
    }


def read(records: Path, name: str) -> list[dict[str, Any]]:
    """All lines of a kind: "requests" or "responses"."""
    files = sorted(records.glob(f"{name}_*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def _write(name: str, rows: list[dict[str, Any]]) -> None:
    with (Path(os.environ["ERPO_RECORDS"]) / f"{name}_{os.getpid()}.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _record_requests(module: Any) -> None:
    """vLLM's side: the sampling parameters of every request, and what was sampled."""
    original = module.AsyncLLM.generate

    @functools.wraps(original)
    async def generate(self: Any, prompt: Any, sampling_params: Any, *args: Any, **kwargs: Any) -> Any:
        async for output in original(self, prompt, sampling_params, *args, **kwargs):
            if output.finished:
                tokens = list(output.outputs[0].token_ids)
                chosen = zip(tokens, output.outputs[0].logprobs or [], strict=False)
                row = {
                    "prompt": list(output.prompt_token_ids),
                    "tokens": tokens,
                    "log_probs": [log_probs[token].logprob for token, log_probs in chosen],
                    "temperature": sampling_params.temperature,
                    "stop_token_ids": list(sampling_params.stop_token_ids or []),
                }
                _write("requests", [row])
            yield output

    module.AsyncLLM.generate = generate


def _record_responses(module: Any) -> None:
    """The trainer's side: every token of a batch with its mask, its log-probs and its advantage."""
    original = module.PPOTrainer._compute_advantage

    @functools.wraps(original)
    def compute_advantage(self: Any, batch: Any, metrics: dict) -> Any:
        result = original(self, batch, metrics)
        columns = module.tq.kv_batch_get(
            keys=batch.keys, partition_id=batch.partition_id, select_fields=[*TOKENS, "advantages"]
        )
        lists = {name: [row.tolist() for row in columns[name].unbind()] for name in [*TOKENS, "advantages"]}
        rows = [
            {"step": self.global_steps, "key": key, **{name: values[i] for name, values in lists.items()}}
            for i, key in enumerate(batch.keys)
        ]
        _write("responses", rows)
        return result

    module.PPOTrainer._compute_advantage = compute_advantage


if "ERPO_RECORDS" in os.environ:
    wrapt.when_imported("vllm.v1.engine.async_llm")(_record_requests)
    wrapt.when_imported("verl.trainer.ppo.v1.trainer_base")(_record_responses)
