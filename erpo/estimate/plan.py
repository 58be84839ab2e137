# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""From an experiment to a machine: what must be changed so that the run fits there, and what it then costs."""

from dataclasses import dataclass, replace

from erpo.estimate.memory import Memory, estimate_memory
from erpo.estimate.model import ModelShape
from erpo.estimate.settings import Assumptions, EstimateError, Hardware, RunSettings
from erpo.estimate.timing import Timing, estimate_timing

_ROLLOUT = "actor_rollout_ref.rollout"
_FSDP = "actor_rollout_ref.actor.fsdp_config"
# vLLM's share where the actor leaves the GPU while vLLM generates.
_SHARE_OFFLOADED = 0.8


@dataclass(frozen=True)
class Plan:
    """A run on a machine.

    Attributes:
        hardware: The machine.
        settings: The settings with the overrides applied.
        overrides: Settings to add to the command, none of which changes what is computed.
        memory: Memory of a GPU.
        timing: Time of a step; None if it does not fit.
    """

    hardware: Hardware
    settings: RunSettings
    overrides: tuple[str, ...]
    memory: Memory
    timing: Timing | None


def make_plan(shape: ModelShape, settings: RunSettings, hardware: Hardware, assumptions: Assumptions) -> Plan:
    """Fit a run to a machine: its own settings if they fit, else with more and more of the actor in the host's memory.

    Args:
        shape: The model.
        settings: The experiment's settings.
        hardware: The machine; nodes of eight GPUs, or a single node, where it is not the experiment's own number.
        assumptions: What has to be assumed.

    Returns:
        The first plan that fits, or the last one that was tried.

    Raises:
        EstimateError: The GPUs cannot share the batch or the heads evenly.
    """
    settings, overrides = _on_gpus(settings, hardware.gpus)
    _check_divisible(shape, settings)
    share = max(settings.memory_share, _SHARE_OFFLOADED)
    offload = (f"{_FSDP}.param_offload=true", f"{_FSDP}.optimizer_offload=true")
    policy = (f"{_FSDP}.offload_policy=true",)
    more = (f"{_ROLLOUT}.gpu_memory_utilization={share:g}",)
    attempts = [
        (settings, overrides),
        (replace(settings, offload=True, memory_share=share), overrides + offload + more),
        (replace(settings, offload_policy=True, memory_share=share), overrides + policy + more),
    ]
    if settings.offload_policy or settings.offload:
        attempts = attempts[:1] if settings.offload_policy else [attempts[0], attempts[2]]
    for changed, needed in attempts:
        memory = estimate_memory(shape, changed, hardware, assumptions)
        if memory.fits(hardware, changed):
            timing = estimate_timing(shape, changed, hardware, assumptions, memory)
            return Plan(hardware, changed, needed, memory, timing)
    return Plan(hardware, changed, needed, memory, None)


def _on_gpus(settings: RunSettings, gpus: int) -> tuple[RunSettings, tuple[str, ...]]:
    """The settings for another number of GPUs, and what they change."""
    if gpus == settings.gpus:
        return settings, ()
    tensor, sequence = min(settings.tensor_parallel, gpus), min(settings.sequence_parallel, gpus)
    # A micro-batch must hold the longest sequence.
    tokens = max(settings.train_tokens, -(-settings.longest // sequence))
    nodes = gpus // 8 if gpus % 8 == 0 else 1
    overrides = [f"trainer.nnodes={nodes}", f"trainer.n_gpus_per_node={gpus // nodes}"]
    if tensor != settings.tensor_parallel:
        overrides.append(f"{_ROLLOUT}.tensor_model_parallel_size={tensor}")
    if sequence != settings.sequence_parallel:
        overrides.append(f"{_FSDP}.ulysses_sequence_parallel_size={sequence}")
    if tokens != settings.train_tokens:
        overrides.append(f"actor_rollout_ref.actor.ppo_max_token_len_per_gpu={tokens}")
    changed = replace(
        settings,
        gpus=gpus,
        gpus_per_node=gpus // nodes,
        tensor_parallel=tensor,
        sequence_parallel=sequence,
        train_tokens=tokens,
        infer_tokens=max(settings.infer_tokens, tokens),
    )
    return changed, tuple(overrides)


def _check_divisible(shape: ModelShape, settings: RunSettings) -> None:
    tensor, sequence = settings.tensor_parallel, settings.sequence_parallel
    responses = settings.mini_batch * settings.n
    tokens = min(settings.train_tokens, settings.infer_tokens) * sequence
    for name, size in (
        (f"{_ROLLOUT}.tensor_model_parallel_size", tensor),
        (f"{_FSDP}.ulysses_sequence_parallel_size", sequence),
    ):
        if settings.gpus % size or shape.heads % size:
            raise EstimateError(
                f"{name}={size} must divide the {settings.gpus} GPUs and the model's {shape.heads} heads; change it"
            )
    if responses * sequence % settings.gpus:
        raise EstimateError(
            f"{settings.gpus} GPUs cannot share the {responses} responses of a mini-batch evenly; change "
            "actor_rollout_ref.actor.ppo_mini_batch_size"
        )
    if tokens < settings.longest:
        raise EstimateError(
            f"a micro-batch of {tokens} tokens does not hold the longest sequence, {settings.longest}; raise "
            "actor_rollout_ref.actor.ppo_max_token_len_per_gpu"
        )
