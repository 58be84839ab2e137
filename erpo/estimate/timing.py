# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Time of a training step, in seconds.

With N parameters that multiply every token and s tokens in a sequence, a forward pass costs 2 N operations per token,
and attention 2 s more for each layer and query channel. An update costs four forward passes (forward, again for
gradient checkpointing, and twice that for backward), the old log-probs one. Decoding is bound by the reading of weights
and KV cache or by arithmetic, whichever is slower; the last responses of a step run to the length limit almost alone.
"""

from dataclasses import dataclass
from math import ceil

from erpo.estimate.memory import Memory
from erpo.estimate.model import ModelShape
from erpo.estimate.settings import Assumptions, Hardware, RunSettings

_BF16 = 2
# Adam in the host's memory reads parameter, gradient and both moments, and writes all but the gradient, in fp32.
_ADAM_TRAFFIC = 7 * 4


@dataclass(frozen=True)
class Timing:
    """Seconds of a training step, in parts.

    Attributes:
        generation: Responses of one train batch, without the tail.
        tail: The last responses, at the length limit.
        training: Log-probs and update.
        offload: Transfers between GPU and host, and Adam on the host.
        overhead: Everything else.
        validation: One validation.
        concurrent: Responses that a vLLM replica has in work at once.
    """

    generation: float
    tail: float
    training: float
    offload: float
    overhead: float
    validation: float
    concurrent: int

    def hours(self, settings: RunSettings, dropped: float = 0.0) -> float:
        """Hours of the whole run.

        Args:
            settings: Steps, and steps between validations.
            dropped: Share of the groups that the method drops and refills, in [0, 1): each kept group then costs
                1 / (1 - dropped) generated ones.
        """
        step = self.generation / (1 - dropped) + self.tail + self.training + self.offload + self.overhead
        validations = settings.steps // settings.test_freq + 1 if settings.test_freq > 0 else 0
        return (settings.steps * step + validations * self.validation) / 3600


def estimate_timing(
    shape: ModelShape, settings: RunSettings, hardware: Hardware, assumptions: Assumptions, memory: Memory
) -> Timing:
    """Calculate what the module's text says.

    Args:
        shape: The model.
        settings: The run.
        hardware: The GPUs.
        assumptions: Lengths and efficiencies.
        memory: Of the same run; a positive cache is needed.
    """
    replicas = settings.gpus / settings.tensor_parallel
    context = assumptions.prompt_tokens + assumptions.response_tokens / 2
    responses = settings.batch * settings.n
    concurrent = max(
        1,
        min(settings.max_num_seqs, ceil(responses / replicas), int(memory.cache / (context * memory.cache_per_token))),
    )

    def decode(at_once: int) -> float:
        """Seconds of one decoding step of a replica."""
        weights = _BF16 * shape.parameters / settings.tensor_parallel
        read = (weights + at_once * context * memory.cache_per_token) / (
            hardware.bandwidth * assumptions.bandwidth_share
        )
        arithmetic = (
            2
            * shape.matmul_parameters
            * at_once
            / (settings.tensor_parallel * hardware.flops * assumptions.generation_mfu)
        )
        return max(read, arithmetic) + assumptions.decode_overhead

    def generate(count: int) -> float:
        """Seconds for ``count`` responses on all replicas."""
        return count * assumptions.response_tokens / replicas / concurrent * decode(concurrent)

    prefill = 2 * shape.matmul_parameters * settings.batch * assumptions.prompt_tokens
    tail = max(0.0, settings.max_response - assumptions.response_tokens) * decode(1)
    sequence = assumptions.prompt_tokens + assumptions.response_tokens
    forward = (2 * shape.matmul_parameters + 2 * shape.layers * shape.heads * shape.head_dim * sequence) * (
        responses * sequence
    )
    return Timing(
        generation=generate(responses) + prefill / (settings.gpus * hardware.flops * assumptions.generation_mfu),
        tail=tail,
        training=5 * forward / (settings.gpus * hardware.flops * assumptions.mfu),
        offload=_offload(shape, settings, assumptions, sequence),
        overhead=assumptions.step_overhead,
        validation=generate(settings.validation_responses) + tail,
        concurrent=concurrent,
    )


def _offload(shape: ModelShape, settings: RunSettings, assumptions: Assumptions, sequence: float) -> float:
    shard, link = shape.parameters / settings.gpus, assumptions.host_link * 1e9
    if settings.offload_policy:
        # Every micro-batch fetches the fp32 shard for forward and backward and brings the gradients back.
        groups = settings.gpus / settings.sequence_parallel
        mini_batches = settings.batch / settings.mini_batch
        tokens = settings.mini_batch * settings.n * sequence / groups
        micro_batches = mini_batches * ceil(tokens / (settings.train_tokens * settings.sequence_parallel))
        infer_batches = ceil(
            settings.batch * settings.n * sequence / groups / (settings.infer_tokens * settings.sequence_parallel)
        )
        adam = mini_batches * _ADAM_TRAFFIC * shard * settings.gpus_per_node / (assumptions.host_bandwidth * 1e9)
        return (12 * micro_batches + 4 * infer_batches) * shard / link + adam
    if settings.offload:
        # In and out: the parameters for log-probs, parameters and Adam for the update.
        return 2 * (4 + 12) * shard / link
    return 0.0
