# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Batched sampling from the tiny model, and its accuracy on a pool of problems."""

from collections.abc import Sequence

import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from erpo.tasks.arithmetic.reward import compute_score
from erpo.tasks.arithmetic.task import MAX_RESPONSE_TOKENS, Problem


@torch.no_grad()
def sample_responses(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    temperature: float,
    seed: int,
    max_tokens: int = MAX_RESPONSE_TOKENS,
) -> list[str]:
    """Samples one response for each prompt, decoded as verl does: up to the end-of-sequence token, which is dropped.

    Args:
        model: The model; its training mode is not changed (it has no dropout).
        tokenizer: Tokenizer of the model.
        prompts: Prompts of any lengths; repeat a prompt for several responses to it.
        temperature: Positive sampling temperature; no other restriction of the distribution.
        seed: Seed of the sampling.
        max_tokens: A response is cut after as many tokens.

    Returns:
        Responses in the order of `prompts`.
    """
    generator = torch.Generator().manual_seed(seed)
    responses = [""] * len(prompts)
    for length in sorted({len(prompt) for prompt in prompts}):
        # Prompts of one length need no padding, and no attention mask.
        rows = [row for row, prompt in enumerate(prompts) if len(prompt) == length]
        tokens = tokenizer([prompts[row] for row in rows], return_tensors="pt")["input_ids"]
        sampled = _sample_tokens(model, tokens, temperature, generator, max_tokens).tolist()
        for row, ids in zip(rows, sampled, strict=True):
            end = ids.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in ids else len(ids)
            responses[row] = tokenizer.decode(ids[:end], skip_special_tokens=True)
    return responses


def _sample_tokens(
    model: Qwen2ForCausalLM,
    prompt_tokens: torch.Tensor,
    temperature: float,
    generator: torch.Generator,
    max_tokens: int,
) -> torch.Tensor:
    """Continues `prompt_tokens` (batch, prompt length); returns (batch, at most max_tokens), arbitrary after ends."""
    cache = None
    tokens = prompt_tokens
    finished = torch.zeros(len(tokens), dtype=torch.bool)
    sampled: list[torch.Tensor] = []
    while len(sampled) < max_tokens and not finished.all():
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        probabilities = torch.softmax(output.logits[:, -1] / temperature, dim=-1)
        tokens = torch.multinomial(probabilities, 1, generator=generator)
        finished |= tokens[:, 0] == model.config.eos_token_id
        sampled.append(tokens)
    return torch.cat(sampled, dim=1)


def group_accuracies(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    samples: int,
    temperature: float,
    seed: int,
    max_tokens: int = MAX_RESPONSE_TOKENS,
) -> list[float]:
    """Share of right responses among `samples` responses to each problem, as the reward function counts them."""
    prompts = [problem.prompt for problem in problems for _ in range(samples)]
    answers = [problem.answer for problem in problems for _ in range(samples)]
    responses = sample_responses(model, tokenizer, prompts, temperature, seed, max_tokens)
    scores = [
        compute_score("arithmetic", response, answer, max_characters=max_tokens - 1)["acc"]
        for response, answer in zip(responses, answers, strict=True)
    ]
    return [sum(scores[first : first + samples]) / samples for first in range(0, len(scores), samples)]
