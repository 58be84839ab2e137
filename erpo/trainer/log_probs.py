# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Log-probs and entropies of tokens, each at its own temperature, in float32 and without a copy of the logits.

verl divides the logits in their own dtype: in bf16 a T of 1.05 becomes 1.046875 and every quotient is rounded, while
vLLM divides in float32. Here a few rows at a time become float32, forward and backward.
"""

from collections.abc import Iterator
from typing import Any

import torch

# Logits that are float32 at the same time: 64 MiB, and about three times as much with what is computed from them.
_PIECE = 1 << 24
# Far below any logit, and finite: p log p of a masked token is 0 and not NaN.
MASKED = -1e9


def token_log_probs(
    logits: torch.Tensor,
    labels: torch.Tensor,
    temperatures: torch.Tensor,
    *,
    vocabulary: int,
    banned: tuple[int, ...] = (),
    entropy: bool = True,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log_softmax(z / T) of the labels, and the entropy of softmax(z / T), in float32.

    The backward pass writes the gradient over the logits, as verl's own does: nobody may read them afterwards.

    Args:
        logits: z, shape (..., rows of the head), any dtype.
        labels: Tokens, shape (...).
        temperatures: T, shape (...).
        vocabulary: Rows of the head from this one on are no token; the rollout never samples them.
        banned: Tokens that the rollout never samples.
        entropy: Whether entropies are wanted.

    Returns:
        Log-probs and entropies, or None for those, float32, shape (...). The log-prob of a label that the rollout
        never samples (an image's placeholder in a prompt, say) is 0 and has no gradient.
    """
    shape = labels.shape
    log_probs, entropies = _TokenLogProbs.apply(
        logits.reshape(-1, logits.shape[-1]),
        labels.reshape(-1),
        temperatures.reshape(-1).float(),
        min(vocabulary, logits.shape[-1]),
        banned,
        entropy,
    )
    return log_probs.view(shape), entropies.view(shape) if entropy else None


class _TokenLogProbs(torch.autograd.Function):
    """With l = log_softmax(z / T), p = exp(l) and H = -sum(p l), for the label y:

    d l_y / d z_k = ([k = y] - p_k) / T,   d H / d z_k = -p_k (l_k + H) / T.
    """

    @staticmethod
    def forward(
        ctx: Any,
        logits: torch.Tensor,
        labels: torch.Tensor,
        temperatures: torch.Tensor,
        vocabulary: int,
        banned: tuple[int, ...],
        entropy: bool,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        sampled = labels < vocabulary
        for token in banned:
            sampled &= labels != token
        labels = torch.where(sampled, labels, 0).unsqueeze(-1)
        log_probs = torch.empty_like(temperatures)
        entropies = torch.empty_like(temperatures) if entropy else None
        for rows in pieces(logits):
            log_p = log_softmax(logits[rows], temperatures[rows], vocabulary, banned)
            log_probs[rows] = log_p.gather(-1, labels[rows]).squeeze(-1)
            if entropies is not None:
                entropies[rows] = -log_p.exp().mul_(log_p).sum(-1)
        log_probs.masked_fill_(~sampled, 0.0)
        ctx.save_for_backward(logits, labels, temperatures, sampled, entropies)
        ctx.vocabulary, ctx.banned = vocabulary, banned
        ctx.set_materialize_grads(False)
        return log_probs, entropies

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        logits, labels, temperatures, sampled, entropies = ctx.saved_tensors
        of_log_probs, of_entropies = gradients
        if of_log_probs is None:
            of_log_probs = torch.zeros_like(temperatures)
        of_log_probs = torch.where(sampled, of_log_probs.float(), 0.0).unsqueeze(-1)
        for rows in pieces(logits):
            log_p = log_softmax(logits[rows], temperatures[rows], ctx.vocabulary, ctx.banned)
            gradient = log_p.exp()
            if of_entropies is None:
                gradient.mul_(-of_log_probs[rows])
            else:
                log_p.add_(entropies[rows].unsqueeze(-1)).mul_(of_entropies[rows].float().unsqueeze(-1))
                gradient.mul_(log_p.add_(of_log_probs[rows])).neg_()
            gradient.scatter_add_(-1, labels[rows], of_log_probs[rows]).div_(temperatures[rows].unsqueeze(-1))
            logits[rows, : ctx.vocabulary] = gradient
        logits[:, ctx.vocabulary :] = 0
        return logits.detach(), None, None, None, None, None


def pieces(logits: torch.Tensor) -> Iterator[slice]:
    """Rows of logits, a few at a time: those that are made float32 together."""
    rows, width = logits.shape
    step = max(1, _PIECE // width)
    return (slice(start, start + step) for start in range(0, rows, step))


def log_softmax(
    logits: torch.Tensor, temperatures: torch.Tensor, vocabulary: int, banned: tuple[int, ...]
) -> torch.Tensor:
    """log_softmax(z / T) over what the rollout samples from, float32, shape (rows, vocabulary)."""
    scaled = logits[:, :vocabulary] / temperatures.unsqueeze(-1)
    if banned:
        scaled[:, banned] = MASKED
    return torch.log_softmax(scaled, dim=-1)
