# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The research loop's transformer: two layers as Qwen2 has them, with a head of its own.

Written out because a run is a few hundred small batches: a general model class spends most of its time in Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from benchmarks.research.toy import (
    END,
    PAD,
    PROMPT_LENGTH,
    REAL_TOKENS,
    RESPONSE_LENGTH,
    encode_prompts,
    encode_responses,
)
from erpo.tasks.arithmetic.task import Problem

_WIDTH, _HEADS, _INNER, _LAYERS = 128, 4, 384, 2
_HEAD_WIDTH = _WIDTH // _HEADS
_BATCH = 128

Cache = list[tuple[torch.Tensor, torch.Tensor]]


def _rotations() -> tuple[torch.Tensor, torch.Tensor]:
    frequencies = 1.0 / (10_000 ** (torch.arange(0, _HEAD_WIDTH, 2).float() / _HEAD_WIDTH))
    angles = torch.arange(PROMPT_LENGTH + RESPONSE_LENGTH).float()[:, None] * frequencies
    return torch.cos(angles), torch.sin(angles)


_COS, _SIN = _rotations()


def _rotated(x: torch.Tensor, start: int) -> torch.Tensor:
    cos, sin = _COS[start : start + x.shape[2]], _SIN[start : start + x.shape[2]]
    first, second = x[..., : _HEAD_WIDTH // 2], x[..., _HEAD_WIDTH // 2 :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class _Layer(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before_attention = torch.nn.RMSNorm(_WIDTH, eps=1e-6)
        self.qkv = torch.nn.Linear(_WIDTH, 3 * _WIDTH)
        self.attended = torch.nn.Linear(_WIDTH, _WIDTH, bias=False)
        self.before_mlp = torch.nn.RMSNorm(_WIDTH, eps=1e-6)
        self.gate_and_up = torch.nn.Linear(_WIDTH, 2 * _INNER, bias=False)
        self.down = torch.nn.Linear(_INNER, _WIDTH, bias=False)

    def queries_keys_values(self, x: torch.Tensor, start: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Each (rows, heads, length, head width)."""
        split = self.qkv(self.before_attention(x)).view(*x.shape[:2], 3, _HEADS, _HEAD_WIDTH)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        return _rotated(queries, start), _rotated(keys, start), values

    def rest(self, x: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
        x = x + self.attended(attention.transpose(1, 2).reshape(x.shape))
        gate, up = self.gate_and_up(self.before_mlp(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class ToyModel(torch.nn.Module):
    """Prompts are padded to one length, so that no mask and no position depends on a row.

    Args:
        vocabulary: Tokens of the toy.
        seed: Seed of the weights.
    """

    def __init__(self, vocabulary: int, seed: int) -> None:
        super().__init__()
        # The head is not tied: tied, the model does not learn to copy beside a thousand tokens of the tail.
        self.embedding = torch.nn.Embedding(vocabulary, _WIDTH)
        self.layers = torch.nn.ModuleList(_Layer() for _ in range(_LAYERS))
        self.norm = torch.nn.RMSNorm(_WIDTH, eps=1e-6)
        self.head = torch.nn.Linear(_WIDTH, vocabulary, bias=False)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.02, generator=generator)
                elif name.endswith("bias"):
                    parameter.zero_()

    @property
    def _blocks(self) -> list[_Layer]:
        return cast("list[_Layer]", list(self.layers))

    def hidden(self, tokens: torch.Tensor, cache: Cache | None = None, start: int = 0) -> torch.Tensor:
        """Hidden states of tokens (R, L) that begin at position `start`, (R, L, width); fills the cache, if any."""
        x = self.embedding(tokens)
        for number, layer in enumerate(self._blocks):
            queries, keys, values = layer.queries_keys_values(x, start)
            if cache is not None:
                end = start + tokens.shape[1]
                all_keys, all_values = cache[number]
                all_keys[:, :, start:end], all_values[:, :, start:end] = keys, values
                keys, values = all_keys[:, :, :end], all_values[:, :, :end]
            if tokens.shape[1] == 1:
                weights = torch.softmax(queries @ keys.transpose(-1, -2) * _HEAD_WIDTH**-0.5, -1)
                attention = weights @ values
            else:
                attention = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)
            x = layer.rest(x, attention)
        return self.norm(x)

    def response_states(self, prompts: torch.Tensor, group: torch.Tensor, responses: torch.Tensor) -> torch.Tensor:
        """Hidden states that predict the tokens of responses; a prompt is computed once for all of its responses.

        Args:
            prompts: (P, PROMPT_LENGTH).
            group: Row of the prompt of each response, (R,).
            responses: (R, L).

        Returns:
            (R, L, width).
        """
        of_prompts, of_responses = self.embedding(prompts), self.embedding(responses[:, :-1])
        length = of_responses.shape[1]
        mask = torch.ones(length, PROMPT_LENGTH + length, dtype=torch.bool).tril(PROMPT_LENGTH)
        for layer in self._blocks:
            queries, prompt_keys, prompt_values = layer.queries_keys_values(of_prompts, 0)
            attention = F.scaled_dot_product_attention(queries, prompt_keys, prompt_values, is_causal=True)
            of_prompts = layer.rest(of_prompts, attention)
            queries, keys, values = layer.queries_keys_values(of_responses, PROMPT_LENGTH)
            keys, values = torch.cat([prompt_keys[group], keys], 2), torch.cat([prompt_values[group], values], 2)
            of_responses = layer.rest(of_responses, F.scaled_dot_product_attention(queries, keys, values, mask))
        return self.norm(torch.cat([of_prompts[group, -1:], of_responses], 1))


def cut_tail(logits: torch.Tensor, min_p: float, sampled: torch.Tensor | None = None) -> torch.Tensor:
    """Logits (R, vocabulary) with what is less than `min_p` times as probable as the most probable token at -inf.

    Tokens that were `sampled`, (R,), stay: a rounding error may put them outside.
    """
    if not min_p:
        return logits
    cut = logits.detach() < logits.detach().amax(-1, keepdim=True) + np.log(min_p)
    if sampled is not None:
        cut.scatter_(1, sampled[:, None], False)
    return logits.masked_fill(cut, -torch.inf)


@torch.no_grad()
def generate(
    model: ToyModel,
    prompts: torch.Tensor,
    sizes: NDArray[np.int64],
    temperatures: NDArray[np.float64],
    generator: torch.Generator,
    min_p: float = 0.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples responses.

    Args:
        model: The model.
        prompts: (P, PROMPT_LENGTH).
        sizes: Responses to each prompt, (P,).
        temperatures: Sampling temperature of each prompt, (P,).
        generator: Source of randomness.
        min_p: See :func:`cut_tail`; 0 cuts nothing.

    Returns:
        Tokens, padded behind their ends, (R, RESPONSE_LENGTH), and lengths, the end included, (R,).
    """
    repeats = torch.as_tensor(sizes)
    rows = int(repeats.sum())
    shape = (len(prompts), _HEADS, PROMPT_LENGTH + RESPONSE_LENGTH, _HEAD_WIDTH)
    cache: Cache = [(torch.zeros(shape), torch.zeros(shape)) for _ in range(_LAYERS)]
    states = model.hidden(prompts, cache)[:, -1].repeat_interleave(repeats, 0)
    cache = [(keys.repeat_interleave(repeats, 0), values.repeat_interleave(repeats, 0)) for keys, values in cache]
    heat = torch.as_tensor(temperatures, dtype=torch.float32).repeat_interleave(repeats)[:, None]
    responses = torch.full((rows, RESPONSE_LENGTH), PAD)
    lengths = torch.full((rows,), RESPONSE_LENGTH)
    draws = torch.rand(RESPONSE_LENGTH, rows, generator=generator)
    alive, done = torch.arange(rows), torch.zeros(rows, dtype=torch.bool)
    for position in range(RESPONSE_LENGTH):
        logits = cut_tail(model.head(states) / heat, min_p)
        new = torch.where(done, PAD, _drawn(logits, draws[position, alive]))
        responses[alive, position] = new
        ended = ~done & (new == END)
        lengths[alive[ended]] = position + 1
        done = done | ended
        going = int((~done).sum())
        if not going or position == RESPONSE_LENGTH - 1:
            break
        if going < 0.8 * len(alive):
            keep = (~done).nonzero()[:, 0]
            alive, done, heat, new = alive[keep], done[keep], heat[keep], new[keep]
            cache = [(keys[keep], values[keep]) for keys, values in cache]
        states = model.hidden(new[:, None], cache, PROMPT_LENGTH + position)[:, 0]
    return responses, lengths


def _drawn(logits: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
    """Tokens by the inverse of the cumulative distribution, (R,); only few rows reach into the tail."""
    of_real = (logits[:, :REAL_TOKENS] - torch.logsumexp(logits, -1, keepdim=True)).exp().cumsum(-1)
    new = torch.searchsorted(of_real, draws[:, None])[:, 0]
    rest = (new >= REAL_TOKENS).nonzero()[:, 0]
    if len(rest):
        # In float64, or rounding leaves draws near 1 beyond the last token.
        cumulative = torch.softmax(logits[rest].double(), -1).cumsum(-1)
        least = cumulative[:, REAL_TOKENS - 1 : REAL_TOKENS]
        wanted = torch.maximum(draws[rest, None].double() * cumulative[:, -1:], least * (1 + 1e-12))
        new[rest] = torch.searchsorted(cumulative, wanted)[:, 0].clamp(max=logits.shape[1] - 1)
    return new


@dataclass(frozen=True, eq=False)
class Exact:
    """Without sampling, for P problems and K temperatures.

    Attributes:
        right: Probability of the worked answer, (P, K).
        tail_free: The same at the first temperature if the tail could not be sampled, (P,).
        greedy: Whether greedy decoding gives the worked answer, (P,).
        tail_mass: Expected tokens of the tail along the worked answer, (P, K).
    """

    right: NDArray[np.float64]
    tail_free: NDArray[np.float64]
    greedy: NDArray[np.bool_]
    tail_mass: NDArray[np.float64]


@torch.inference_mode()
def exact(model: ToyModel, problems: Sequence[Problem], temperatures: Sequence[float] = (1.0,)) -> Exact:
    """The model's own probabilities of the worked answers."""
    # Short answers together, or much of a batch would be padding.
    order = np.argsort([problem.operations for problem in problems], kind="stable")
    parts = [
        _exact(model, [problems[row] for row in order[at : at + _BATCH].tolist()], temperatures)
        for at in range(0, len(order), _BATCH)
    ]
    back = np.argsort(order)
    return Exact(*(np.concatenate([part[field] for part in parts])[back] for field in range(4)))


def _exact(model: ToyModel, problems: Sequence[Problem], temperatures: Sequence[float]) -> tuple[NDArray, ...]:
    prompts = encode_prompts(problems)
    responses = encode_responses(problems)[:, : max(len(problem.response) for problem in problems) + 1]
    states = model.hidden(torch.cat([prompts, responses[:, :-1]], 1))[:, PROMPT_LENGTH - 1 :]
    mask = responses != PAD
    rows, right = mask.nonzero()[:, 0], responses[mask]
    logits = model.head(states[mask])

    def by_row(values: torch.Tensor) -> NDArray[np.float64]:
        return torch.zeros(len(problems)).index_add_(0, rows, values).double().numpy()

    log_probs, masses = [], []
    for temperature in temperatures:
        scaled = torch.log_softmax(logits / temperature, -1)
        log_probs.append(by_row(scaled.gather(1, right[:, None])[:, 0]))
        masses.append(by_row(scaled[:, REAL_TOKENS:].exp().sum(1)))
    real = torch.log_softmax(logits[:, :REAL_TOKENS] / temperatures[0], -1)
    wrong = by_row((logits.argmax(-1) != right).float())
    return (
        np.exp(np.stack(log_probs, 1)),
        np.exp(by_row(real.gather(1, right[:, None])[:, 0])),
        wrong == 0,
        np.stack(masses, 1),
    )
