# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Log-probs at Qwen2.5's widths, forward and backward: one temperature per response, one for all, and T = 1.

What follows the model's last layer: output head, division by the temperature, log-prob of the response's tokens. One
temperature for all, and T = 1, by the functions of verl's FSDP engine; one per response by ours. The same two by verl's
fused kernels, which never hold all logits: the torch back end everywhere, triton on a GPU. On a GPU where there is
one, else on the CPU.
"""

import multiprocessing
import re
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch

VOCABULARY = 151_936
WIDTHS = {"qwen2.5-3b": 2048, "qwen2.5-7b": 3584}
VARIANTS = ("unit", "scalar", "per_response", "torch_scalar", "torch_per_response")
ON_GPU = ("triton_scalar", "triton_per_response")
REPETITIONS = 3
ROUNDS = 3
# Tokens whose log-probs are compared with float32.
_COMPARED = 64


def measure() -> dict[str, Any]:
    """Seconds, peak memory, and their ratios to the scalar, and mean differences to float32, by model."""
    on_gpu = torch.cuda.is_available()
    tokens = 8192 if on_gpu else 192
    variants = VARIANTS + ON_GPU if on_gpu else VARIANTS
    results: dict[str, Any] = {"device": torch.cuda.get_device_name() if on_gpu else "cpu", "tokens": tokens}
    # A GPU's peak of memory can be set back; a process's cannot.
    measured = _measure_variant if on_gpu else _in_process
    for name, width in WIDTHS.items():
        # In rounds, so that a busy moment meets all of them.
        rounds = [{variant: measured(variant, width, tokens) for variant in variants} for _ in range(ROUNDS)]
        entry: dict[str, Any] = {}
        for i, quantity in enumerate(("seconds", "peak_gib")):
            for variant in variants:
                entry[f"{variant}_{quantity}"] = median(one[variant][i] for one in rounds)
                # A fused kernel with a temperature per response against the same one with one for all.
                backend = variant.removesuffix("_per_response")
                other = f"{backend}_scalar" if f"{backend}_scalar" in variants else "scalar"
                for against in {other, "scalar"} - {variant}:
                    ratio = median(one[variant][i] / one[against][i] for one in rounds)
                    entry[f"{variant}_to_{against}_{quantity}"] = ratio
        entry |= {f"{variant}_error": median(one[variant][2] for one in rounds) for variant in variants}
        results[name] = entry
    return results


def _in_process(variant: str, width: int, tokens: int) -> tuple[float, float, float]:
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measure_variant, (variant, width, tokens))


def _measure_variant(variant: str, width: int, tokens: int) -> tuple[float, float, float]:
    """Seconds of one forward and backward pass, peak memory beyond the head's weight in GiB, and error in nats."""
    from verl.utils.torch_functional import logprobs_from_logits
    from verl.workers.engine.fsdp.transformer_impl import _scale_logits_by_temperature

    from erpo.trainer.fused import TokenSampling, install
    from erpo.trainer.log_probs import token_log_probs

    install()
    on_gpu = torch.cuda.is_available()
    device, dtype = ("cuda", torch.bfloat16) if on_gpu else ("cpu", torch.float32)
    torch.manual_seed(0)
    head = torch.nn.Linear(width, VOCABULARY, bias=False, device=device, dtype=dtype)
    hidden = torch.randn(tokens, width, device=device, dtype=dtype, requires_grad=True)
    labels = torch.randint(VOCABULARY, (tokens,), device=device)
    generator = torch.Generator().manual_seed(1)
    varied = (1.0 + 0.5 * torch.rand(tokens, 1, generator=generator)).to(device)
    temperature = 1.0 if variant == "unit" else torch.full_like(varied, 1.2)
    weights = torch.ones(tokens, device=device)
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    before = _peak_gib()
    seconds = []
    for _ in range(REPETITIONS):
        head.zero_grad()
        begin = time.perf_counter()
        logits = None
        if variant.startswith(("torch", "triton")):
            handed = TokenSampling(varied[:, 0], VOCABULARY, ()) if variant.endswith("_per_response") else 1.2
            log_probs, _ = _fused(variant.split("_")[0], hidden, head.weight, labels, handed)
        elif variant == "per_response":
            logits = head(hidden)
            log_probs, _ = token_log_probs(logits, labels, varied[:, 0], vocabulary=VOCABULARY, entropy=False)
        else:
            logits = head(hidden)
            logits = _scale_logits_by_temperature(logits, temperature, is_unit_temperature=variant == "unit")
            log_probs = logprobs_from_logits(logits, labels)
        # No plain sum: its gradient is one number for all, which verl's triton kernel refuses.
        (log_probs * weights).sum().backward()
        if on_gpu:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
        compared = log_probs.detach()[:_COMPARED].float()
        del logits, log_probs
    peak = _peak_gib() - before
    sampled_at = varied[:_COMPARED] if variant.endswith("per_response") else 1.0 if variant == "unit" else 1.2
    with torch.no_grad():
        exact = torch.log_softmax(hidden[:_COMPARED].float() @ head.weight.float().T / sampled_at, dim=-1)
        error = (exact.gather(-1, labels[:_COMPARED, None])[:, 0] - compared).abs().mean().item()
    return median(seconds), peak, error


def _fused(backend: str, hidden: Any, weight: Any, labels: Any, temperature: Any) -> tuple[Any, Any]:
    if backend == "torch":
        from verl.utils.experimental.torch_functional import FusedLinearForPPO

        return FusedLinearForPPO()(hidden, weight, labels, temperature)
    from verl.utils.kernel.linear_cross_entropy import linear_cross_entropy

    return linear_cross_entropy(hidden, weight, labels, temperature, "none")


def _peak_gib() -> float:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    # Not ru_maxrss: a new process begins with its parent's peak.
    (peak,) = re.findall(r"^VmHWM:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(peak) / 2**20
