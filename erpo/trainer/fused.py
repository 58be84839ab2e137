# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""verl's fused kernels (output head and log-prob in one, without logits) with a temperature for every token.

The kernels take one temperature for all tokens. They are not touched: since ``W h / T = W (h / T)``, the hidden state
of each token is divided by its temperature first, and the kernel runs at 1. Autograd gives ``dh = dh' / T``; log-probs,
entropies and ``dW`` are those of ``softmax(W h / T)`` as they come.

Patched, for verl 0.9.1, which has no hook here: `FusedLinearForPPO.forward` (back ends torch and liger) and
`linear_cross_entropy` (triton). The forward functions that verl gives its models look both up when they are called, and
hand on the engine's temperature as it is. With a number as temperature both do what they did.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

import torch
from torch.distributed.tensor import DTensor
from verl.utils.experimental.torch_functional import FusedLinearForPPO
from verl.utils.kernel import linear_cross_entropy as triton_kernel

from erpo.trainer.heat import at_places, spread, tail_masses

_MOST_BANNED = 1 - 1e-6
_Kernel = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


class TokenSampling:
    """How each token was sampled: what the engine hands to the kernels in the place of one temperature.

    No tensor, no data class and no container: FSDP makes floats among a model's arguments bf16, and looks into those.

    Attributes:
        values: Temperature of each token, float32, in the shape of the labels.
        vocabulary: Rows of the head from this one on are no token; the rollout never samples them.
        banned: Tokens that the rollout never samples.
        heat_tokens: Most places whose tail is measured; 0: nothing is measured.
        heat: What was measured, shape (3, *labels): tail masses at T and hotter, and log-probs at T = 1.
    """

    def __init__(self, values: torch.Tensor, vocabulary: int, banned: tuple[int, ...], heat_tokens: int = 0) -> None:
        self.values = values
        self.vocabulary = vocabulary
        self.banned = banned
        self.heat_tokens = heat_tokens
        self.heat: torch.Tensor | None = None


def fused_log_probs(
    kernel: _Kernel, hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor, sampling: TokenSampling
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs of the labels and entropies, each token at its own temperature.

    Args:
        kernel: Takes hidden states, the head's weight and labels; gives log-probs and entropies at T = 1.
        hidden: h, shape (..., width).
        head: W, shape (rows of the head, width).
        labels: Tokens, shape (...).
        sampling: How each token was sampled, its temperature T above all.

    Returns:
        Log-probs and entropies, shape (...). The log-prob of a label that the rollout never samples is 0 and has no
        gradient. Where ``sampling`` asks for the heat, it holds it afterwards.
    """
    if isinstance(head, DTensor):
        raise RuntimeError(
            "FSDP2 has split the model's head, which verl's fused kernels need whole; set "
            "actor_rollout_ref.model.use_fused_kernels=false."
        )
    head = head[: sampling.vocabulary]
    sampled = labels < len(head)
    for token in sampling.banned:
        sampled = sampled & (labels != token)
    labels = torch.where(sampled, labels, 0)
    scaled = (hidden.float() / sampling.values.unsqueeze(-1)).to(hidden.dtype)
    log_probs, entropies = kernel(scaled, head, labels)
    log_probs, entropies = log_probs.view(labels.shape), entropies.view(labels.shape)
    if sampling.banned:
        log_probs, entropies = _without(sampling.banned, scaled, head, labels, log_probs, entropies)
    log_probs = torch.where(sampled, log_probs, 0.0)
    if sampling.heat_tokens:
        with torch.no_grad():
            sampling.heat = _heat(kernel, hidden, head, torch.where(sampled, labels, len(head)), sampling, log_probs)
    return log_probs, entropies


def _heat(
    kernel: _Kernel,
    hidden: torch.Tensor,
    head: torch.Tensor,
    labels: torch.Tensor,
    sampling: TokenSampling,
    log_probs: torch.Tensor,
) -> torch.Tensor:
    """Tail masses from the logits of a few places, and log-probs at T = 1 by a second pass of the kernel."""
    values, banned = sampling.values, sampling.banned
    places = spread(values.numel(), sampling.heat_tokens, values.device)
    logits = hidden.reshape(-1, hidden.shape[-1])[places] @ head.T
    masses = tail_masses(logits, values.reshape(-1)[places], vocabulary=len(head), banned=banned)
    if bool((values == 1).all()):
        at_one = log_probs
    else:
        at_one, _ = fused_log_probs(
            kernel, hidden, head, labels, TokenSampling(torch.ones_like(values), len(head), banned)
        )
    return torch.cat([at_places(masses, places, values.shape), at_one.float().unsqueeze(0)])


def _without(
    banned: tuple[int, ...],
    hidden: torch.Tensor,
    head: torch.Tensor,
    labels: torch.Tensor,
    log_probs: torch.Tensor,
    entropies: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs and entropies where the banned tokens, of probability s together, have none: for every other token

    log p' = log p - log(1 - s),   H' = (H + sum over the banned of p log p) / (1 - s) + log(1 - s).
    """
    # Autocast would make the product bf16.
    with torch.autocast(hidden.device.type, enabled=False):
        of_label = (hidden.float() * head[labels].float()).sum(-1)
        normalizer = of_label - log_probs
        log_banned = hidden.float() @ head[list(banned)].float().T - normalizer.unsqueeze(-1)
    p = log_banned.exp()
    # At the place before an image s may be 1 in float32; the place is no response, but its infinities would spread.
    rest = torch.log1p(-p.sum(-1).clamp(max=_MOST_BANNED))
    return log_probs - rest, (entropies + (p * log_banned).sum(-1)) / rest.exp() + rest


def install() -> None:
    """Let verl's fused kernels take :class:`TokenSampling`; a second call changes nothing."""
    forward = FusedLinearForPPO.forward
    if hasattr(forward, "__wrapped__"):
        return

    @wraps(forward)
    def torch_or_liger(
        self: FusedLinearForPPO, hidden_states: Any, vocab_weights: Any, input_ids: Any, temperature: Any = 1.0
    ) -> Any:
        if isinstance(temperature, TokenSampling):
            return fused_log_probs(partial(forward, self), hidden_states, vocab_weights, input_ids, temperature)
        return forward(self, hidden_states, vocab_weights, input_ids, temperature)

    kernel = triton_kernel.linear_cross_entropy

    @wraps(kernel)
    def triton(hidden: Any, weight: Any, labels: Any, temperature: Any = 1.0, *settings: Any) -> Any:
        if isinstance(temperature, TokenSampling):
            return fused_log_probs(
                lambda h, w, tokens: kernel(h, w, tokens, 1.0, *settings), hidden, weight, labels, temperature
            )
        return kernel(hidden, weight, labels, temperature, *settings)

    FusedLinearForPPO.forward = torch_or_liger
    triton_kernel.linear_cross_entropy = triton
