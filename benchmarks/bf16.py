# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Disagreement of rollout and training log-probs by temperature, on SmolLM2-135M-Instruct, in bf16 where not said else.

vLLM samples responses in bf16 at each temperature, some of which bf16 does not hold. The training side computes their
logits by a forward pass in bf16, and their log-probs in three ways: ours at T, ours at T rounded to bf16 (the control:
what rounding T alone does), and verl's, which divides the bf16 logits in bf16. Beside each stands the entropy of the
tokens: the hotter, the less certain they are, and the more equal noise in the logits shows.

``python -m benchmarks run --only bf16 --out FILE.json``; ``python -m benchmarks.bf16 FILE.json`` prints it as a table.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

TEMPERATURES = (1.0, 1.05, 1.1015625, 1.2, 1.5, 2.0)
PROMPTS = 12
RESPONSE_LENGTH = 32
SEED = 0
_TOPICS = ("bread", "rivers", "bridges", "winter", "clocks", "maps", "forests", "ships")
_TASKS = ("Explain {} in three sentences.", "Why do people like {}?", "Write a short story about {}.")


def measure(
    dtype: str = "bfloat16",
    temperatures: Sequence[float] = TEMPERATURES,
    count: int = PROMPTS,
    response_length: int = RESPONSE_LENGTH,
) -> dict[str, Any]:
    """Rows by temperature, and the settings that they are of; of one response to each of `count` prompts."""
    from erpo.evaluation.sampler import prepare_process
    from erpo.tasks.word_problems.weights import write_model

    # Before anything imports torch or vLLM.
    prepare_process()
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as folder:
        model = str(write_model(Path(folder) / "model"))
        tokenizer = AutoTokenizer.from_pretrained(model)
        prompts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": task.format(topic)}], add_generation_prompt=True, return_dict=False
            )
            for task in _TASKS
            for topic in _TOPICS
        ]
        rows = disagreement(model, prompts[:count], temperatures, response_length, dtype)
    return {"prompts": count, "response_length": response_length, "dtype": dtype, "rows": rows}


def disagreement(
    model: str,
    prompts: list[list[int]],
    temperatures: Sequence[float],
    response_length: int,
    dtype: str = "bfloat16",
    **engine: Any,
) -> list[dict[str, float]]:
    """Mean absolute difference of rollout and training log-probs, by temperature, on a GPU where there is one.

    Args:
        model: The model's folder.
        prompts: Tokens of each prompt, each of which gets a response.
        temperatures: Sampling temperatures.
        response_length: Tokens of every response.
        dtype: What both sides compute in.
        engine: Further settings of vLLM.

    Returns:
        For each temperature: ``tokens``, the mean ``entropy``, and the differences ``ours``, ``rounded`` and ``verl``;
        the mean of log p_rollout - log p_train with its sign, ``signed`` with ours and ``signed_exact`` with log-probs
        that are summed in float64.
    """
    return _compare(model, dtype, _sample(model, dtype, prompts, temperatures, response_length, engine))


def table(results: dict[str, Any]) -> str:
    """The rows as a Markdown table."""
    lines = [
        "| T | tokens | entropy, nats | ours at T | ours at T in bf16 | verl's division in bf16 |",
        "|---|---|---|---|---|---|",
    ]
    for row in results["rows"]:
        figures = " | ".join(f"{row[name]:.2e}" for name in ("ours", "rounded", "verl"))
        lines.append(f"| {row['temperature']:g} | {row['tokens']} | {row['entropy']:.2f} | {figures} |")
    return "\n".join(lines)


class _Response(NamedTuple):
    prompt: list[int]
    tokens: list[int]
    log_probs: list[float]


def _sample(
    model: str,
    dtype: str,
    prompts: list[list[int]],
    temperatures: Sequence[float],
    response_length: int,
    settings: dict[str, Any],
) -> dict[float, list[_Response]]:
    """Responses by temperature, with the rollout's log-probs."""
    from vllm import LLM, SamplingParams

    engine = LLM(
        model=model,
        dtype=dtype,
        enforce_eager=True,
        max_model_len=max(map(len, prompts)) + response_length,
        seed=SEED,
        logprobs_mode="processed_logprobs",
        enable_prefix_caching=False,
        enable_chunked_prefill=False,
        max_num_batched_tokens=4096,
        **settings,
    )
    found: dict[float, list[_Response]] = {}
    for temperature in temperatures:
        params = SamplingParams(
            temperature=temperature,
            max_tokens=response_length,
            logprobs=0,
            seed=SEED,
            ignore_eos=True,
            detokenize=False,
        )
        outputs = engine.generate([{"prompt_token_ids": tokens} for tokens in prompts], params, use_tqdm=False)
        found[temperature] = []
        for prompt, output in zip(prompts, outputs, strict=True):
            sampled = output.outputs[0]
            log_probs = [
                by_token[token].logprob for token, by_token in zip(sampled.token_ids, sampled.logprobs, strict=True)
            ]
            found[temperature].append(_Response(prompt, list(sampled.token_ids), log_probs))
    return found


def _compare(model: str, dtype: str, responses: dict[float, list[_Response]]) -> list[dict[str, float]]:
    """Mean absolute difference to the rollout's log-probs over all response tokens, by temperature and way."""
    import torch
    from transformers import AutoModelForCausalLM
    from verl.utils.torch_functional import logprobs_from_logits
    from verl.workers.engine.fsdp.transformer_impl import _scale_logits_by_temperature

    from erpo.trainer.log_probs import token_log_probs

    # As the layers of verl's FSDP engine compute. Rows of one length, because oneDNN compiles anew for every other one.
    device = "cuda" if torch.cuda.is_available() else "cpu"
    actor = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(device).eval()
    longest = max(len(response.prompt) + len(response.tokens) for group in responses.values() for response in group)
    rows = []
    for temperature, group in tqdm(responses.items(), desc="training side", unit=" temperatures"):
        sums = dict.fromkeys(("entropy", "ours", "rounded", "verl", "signed", "signed_exact"), 0.0)
        tokens = sum(len(response.tokens) for response in group)
        sequences = [response.prompt + response.tokens for response in group]
        with torch.no_grad():
            # Causal: what is padded behind does not reach the tokens before it.
            padded = torch.tensor([one + [0] * (longest - len(one)) for one in sequences], device=device)
            logits_of_all = actor(padded).logits
        for response, sequence, all_logits in zip(group, sequences, logits_of_all, strict=True):
            logits = all_logits[len(response.prompt) - 1 : len(sequence) - 1]
            labels = torch.tensor(response.tokens, device=device)
            sampled_at = torch.full((len(response.tokens),), temperature, device=device)
            scaled = _scale_logits_by_temperature(
                logits.clone(), sampled_at.unsqueeze(-1), is_unit_temperature=temperature == 1.0
            )
            width = logits.shape[-1]
            exact = torch.log_softmax(logits.double() / temperature, dim=-1).gather(-1, labels[:, None])[:, 0]
            ours, entropy = token_log_probs(logits, labels, sampled_at, vocabulary=width)
            assert entropy is not None
            rounded, _ = token_log_probs(logits, labels, sampled_at.bfloat16(), vocabulary=width, entropy=False)
            of_rollout = torch.tensor(response.log_probs, device=device)
            sums["entropy"] += float(entropy.sum())
            for name, values in (("ours", ours), ("rounded", rounded), ("verl", logprobs_from_logits(scaled, labels))):
                sums[name] += float((values.float() - of_rollout).abs().sum())
            sums["signed"] += float((of_rollout - ours).sum())
            sums["signed_exact"] += float((of_rollout - exact).sum())
        rows.append(
            {"temperature": temperature, "tokens": tokens, **{name: total / tokens for name, total in sums.items()}}
        )
    return rows


if __name__ == "__main__":
    print(table(json.loads(Path(sys.argv[1]).read_text())["bf16"]))
