# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Memory of a GPU while verl trains with FSDP2 and while vLLM generates, in bytes.

Both share the GPU but never work at once (synchronous training): vLLM sleeps, its weights and cache released, while
the actor trains, and the actor keeps only what is not offloaded while vLLM generates. With P parameters on W GPUs:

=====================  ==========================================================================================
parameters             4 P / W: verl keeps an fp32 master copy and computes in bf16 (FSDP's mixed precision)
gradients              4 P / W: reduced and accumulated in fp32
Adam                   8 P / W; during its step torch's foreach form holds another 4 P / W of intermediates
gathered parameters    bf16: embedding, head, the layer at work and the one fetched ahead
gradients on the way   bf16 and the fp32 buffer of the reduction, of the head and of one layer
checkpoints            layers x tokens x hidden in bf16: what gradient checkpointing keeps
one layer              everything that the layer that is recomputed saves for its backward pass
logits                 tokens x vocabulary in bf16. Our engine: one copy, which the gradient overwrites, and 0.4 GiB for
                       the rows at work. verl's: logits and gradient in training, logits and two of the entropy for
                       log-probs, one more of each at T other than 1; without flash-attn, whose log-softmax is fused,
                       also a float32 log-softmax that is kept for the backward pass
fused kernels          in the place of the logits, as read in verl 0.9.1. torch: what 512 tokens need, half of it in
                       float32. triton: the gradient of 9,504 of the vocabulary's logits. Both: the head's gradient,
                       and in our engine a copy of it that leaves out rows that are no token
LoRA                   gradients and Adam of the adapter alone, on all linear layers; the base model stays as above
=====================  ==========================================================================================

With ``offload_policy`` parameters, gradients and Adam live in the host's memory.
"""

from dataclasses import dataclass

from erpo.estimate.model import ModelShape
from erpo.estimate.settings import GIB, Assumptions, Hardware, RunSettings

_BF16, _FP32 = 2, 4
# Rows that our engine has in float32 at a time, and what is computed from them.
_PIECES = 0.4 * GIB
# verl's fused kernels: tokens at a time (torch), and rows of the head whose gradients are (triton).
_TORCH_TOKENS, _TRITON_ROWS = 512, 9504

Parts = dict[str, float]


@dataclass(frozen=True)
class Memory:
    """What a GPU and its host hold.

    Attributes:
        training: Phase of training -> part -> bytes.
        rollout: Part -> bytes while vLLM generates; vLLM's own share is one part.
        cache: Bytes left for the KV cache inside vLLM's share; negative if the weights alone do not fit.
        cache_per_token: Bytes of KV cache that a token takes on each GPU of a replica.
        host: Bytes of a node's memory for what is offloaded.
        checkpoint: Bytes on disk of one checkpoint.
    """

    training: dict[str, Parts]
    rollout: Parts
    cache: float
    cache_per_token: float
    host: float
    checkpoint: float

    @property
    def training_peak(self) -> float:
        """Bytes in the largest phase of training."""
        return max(sum(parts.values()) for parts in self.training.values())

    @property
    def rollout_peak(self) -> float:
        """Bytes while vLLM generates."""
        return sum(self.rollout.values())

    def fits(self, hardware: Hardware, settings: RunSettings) -> bool:
        """Whether both phases fit, with room in the cache for the longest sequence."""
        room = self.cache >= settings.longest * self.cache_per_token
        return room and max(self.training_peak, self.rollout_peak) <= hardware.memory


def saved_by_layer(shape: ModelShape) -> int:
    """Bytes per token that one decoder layer saves for its backward pass, in bf16 with fp32 norms.

    Two norms (fp32 input, bf16 normalised and output), queries, keys, values, the attention's output as the kernel and
    as the projection see it, and four tensors of the MLP's width.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    return 16 * shape.hidden + 6 * queries + 4 * keys + 8 * shape.intermediate


def estimate_memory(shape: ModelShape, settings: RunSettings, hardware: Hardware, assumptions: Assumptions) -> Memory:
    """Calculate what the module's table says.

    Args:
        shape: The model.
        settings: The run; ``settings.gpus`` GPUs share the parameters.
        hardware: The GPUs.
        assumptions: Reserves of both processes.
    """
    shard = shape.parameters / settings.gpus
    kv_heads = max(1.0, shape.kv_heads / settings.tensor_parallel)
    weights = _BF16 * shape.parameters / settings.tensor_parallel
    share = settings.memory_share * hardware.memory
    offloaded = settings.offload or settings.offload_policy
    trained = _trained(shape, settings) / settings.gpus
    host = 0.0
    if offloaded:
        host = settings.gpus_per_node * (4 * shard + (12 if settings.offload_policy else 8) * trained)
    return Memory(
        training=_training(shape, settings, assumptions, shard),
        rollout={
            "vLLM": share,
            "parameters and Adam": 0.0 if offloaded else 4 * shard + 8 * trained,
            # The weights go to vLLM tensor by tensor, gathered in fp32, through a bucket.
            "weight update": settings.bucket + _FP32 * shape.embedding,
            "reserve": assumptions.trainer_reserve * GIB,
        },
        cache=share - weights - assumptions.vllm_workspace * GIB,
        cache_per_token=2 * _BF16 * shape.layers * kv_heads * shape.head_dim,
        host=host,
        checkpoint=4.0 * shape.parameters + 8.0 * _trained(shape, settings),
    )


def _training(shape: ModelShape, settings: RunSettings, assumptions: Assumptions, shard: float) -> dict[str, Parts]:
    reserve = (assumptions.trainer_reserve + assumptions.vllm_asleep) * GIB
    on_gpu = 0 if settings.offload_policy else shard
    trained = 0 if settings.offload_policy else _trained(shape, settings) / settings.gpus
    on_the_way = shape.lora_parameters(settings.lora_rank) / shape.layers
    if not settings.lora_rank:
        on_the_way = shape.embedding + shape.layer_parameters
    gathered = _BF16 * (shape.vocabulary_parameters + 2 * shape.layer_parameters)
    kept = 0 if settings.flash else _FP32
    update = {
        "parameters": 4 * on_gpu,
        "gradients": 4 * trained,
        "Adam": 8 * trained,
        "gathered parameters": gathered,
        "gradients on the way": (_BF16 + _FP32) * on_the_way,
        "checkpoints": _BF16 * shape.layers * settings.train_tokens * shape.hidden,
        # The gradients of the MLP's three products and of the residual stream live beside what was saved.
        "one layer": settings.train_tokens * (saved_by_layer(shape) + 6 * shape.intermediate + 4 * shape.hidden),
        "logits": _logits(shape, settings, settings.train_tokens, copies=2, kept=kept, backward=True),
        "reserve": reserve,
    }
    adam = {
        "parameters": 4 * on_gpu,
        "gradients": 4 * trained,
        "Adam": 8 * trained,
        "Adam's intermediates": 4 * trained,
        "reserve": reserve,
    }
    log_probs = {
        "parameters": 4 * on_gpu,
        "Adam": 0.0 if settings.offload else 8 * trained,
        "gathered parameters": gathered,
        "one layer": _BF16 * settings.infer_tokens * (4 * shape.hidden + 3 * shape.intermediate),
        "logits": _logits(shape, settings, settings.infer_tokens, copies=3, kept=0, backward=False),
        "reserve": reserve,
    }
    return {"update": update, "Adam's step": adam, "log-probs": log_probs}


def _logits(shape: ModelShape, settings: RunSettings, tokens: int, *, copies: int, kept: int, backward: bool) -> float:
    """Bytes of the logits and of what is computed from them.

    Args:
        shape: The model.
        settings: The run.
        tokens: Tokens of a micro-batch.
        copies: Copies in bf16 that verl's engine holds at T = 1.
        kept: Bytes per logit that verl keeps for the backward pass.
        backward: Whether there is a backward pass.
    """
    if settings.fused is not None:
        return _fused(shape, settings, tokens, backward)
    if settings.own_log_probs:
        return _BF16 * tokens * shape.vocab + _PIECES
    copies += not settings.unit_temperature
    return float((_BF16 * copies + kept) * tokens * shape.vocab)


def _fused(shape: ModelShape, settings: RunSettings, tokens: int, backward: bool) -> float:
    """Bytes that verl's fused kernels hold beside hidden states and head; liger's are taken for triton's."""
    gradient = 0.0
    if backward and not settings.lora_rank:
        gradient = _BF16 * shape.embedding * (3 if settings.own_log_probs else 2)
    if settings.fused == "torch":
        # Logits and their quotient by T in bf16; in float32 logits, probabilities and log-probs, and in the backward
        # pass the label, the gradient and a product.
        per_logit = 2 * _BF16 + (6 if backward else 3) * _FP32
        return gradient + float(per_logit * min(tokens, _TORCH_TOKENS) * shape.vocab)
    return gradient + (float(_BF16 * tokens * _TRITON_ROWS) if backward else 0.0)


def _trained(shape: ModelShape, settings: RunSettings) -> int:
    """Parameters that have gradients."""
    return shape.lora_parameters(settings.lora_rank) if settings.lora_rank else shape.parameters
