# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What goes into the calculation: the card, the settings of the run, and what has to be assumed."""

import math
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from erpo.environment.attention import FLASH, own_log_probs
from erpo.environment.attention import SETTING as ATTENTION

GIB = 2**30

# Problems in the validation sets that were not prepared yet, by file name.
_KNOWN_SETS = {"aime24": 30, "aime25": 30, "amc23": 40, "math500": 500, "gsm8k_test": 1319}


class EstimateError(ValueError):
    """Something that the calculation does not cover; the message says what and what to change."""


@dataclass(frozen=True)
class Hardware:
    """A machine.

    Attributes:
        name: For tables.
        gpus: GPUs in all nodes.
        memory: Bytes of a GPU that a process can get.
        flops: Dense bf16 operations per second of a GPU.
        bandwidth: Bytes per second between a GPU and its memory.
    """

    name: str
    gpus: int
    memory: float
    flops: float
    bandwidth: float


# NVIDIA's data sheets (SXM boards, and one of GeForce; without sparsity). Memory: what CUDA reports is a little
# below the name.
CARDS = {
    "rtx4090-24gb": (23.5 * GIB, 165e12, 1.008e12),
    "a100-80gb": (79 * GIB, 312e12, 2.039e12),
    "h100-80gb": (79 * GIB, 989e12, 3.35e12),
    "h200-141gb": (139 * GIB, 989e12, 4.8e12),
}


def _assumed(default: float, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True)
class Assumptions:
    """Numbers that are neither settings nor facts; measure them in your first steps and put yours in."""

    response_tokens: float = _assumed(2048, "mean length of a response; verl logs response_length/mean")
    prompt_tokens: float = _assumed(200, "mean length of a prompt with its template; verl logs prompt_length/mean")
    mfu: float = _assumed(0.35, "share of the peak operations reached in training and log-probs; verl logs perf/mfu")
    generation_mfu: float = _assumed(0.5, "share of the peak operations that bounds decoding and prefill")
    bandwidth_share: float = _assumed(0.7, "share of the memory bandwidth reached in decoding")
    decode_overhead: float = _assumed(0.005, "seconds of every decoding step besides memory and arithmetic")
    step_overhead: float = _assumed(20, "seconds of every training step for weight update, rewards and bookkeeping")
    trainer_reserve: float = _assumed(3, "GiB for the training process's CUDA context, NCCL and fragmentation")
    vllm_asleep: float = _assumed(3, "GiB that vLLM keeps while it sleeps: CUDA context, graphs, NCCL")
    vllm_workspace: float = _assumed(4, "GiB of vLLM's share that are neither weights nor KV cache")
    host_link: float = _assumed(25, "GB/s between a GPU and the host (PCIe 4.0 x16 has 32 at most)")
    host_bandwidth: float = _assumed(100, "GB/s at which a node's CPUs run Adam through their memory")

    def with_values(self, values: list[str]) -> "Assumptions":
        """Replace assumptions by ``NAME=VALUE``.

        Raises:
            EstimateError: Unknown name, or no positive number.
        """
        known = {f.name for f in fields(self)}
        changed = {}
        for entry in values:
            name, _, value = entry.partition("=")
            if name not in known:
                raise EstimateError(f"{name!r} is not an assumption; use one of {', '.join(sorted(known))}")
            try:
                changed[name] = float(value)
            except ValueError:
                changed[name] = -1.0
            if not 0 < changed[name] < float("inf"):
                raise EstimateError(f"{entry!r} needs a positive number, as in {name}={getattr(self, name):g}")
        return replace(self, **changed)


@dataclass(frozen=True)
class RunSettings:
    """The settings of verl that memory and time depend on; names in comments where they differ."""

    gpus: int
    gpus_per_node: int
    batch: int  # data.train_batch_size, prompts
    mini_batch: int  # actor.ppo_mini_batch_size, prompts
    n: int
    longest: int  # prompt and response, tokens
    max_response: int
    train_tokens: int  # actor.ppo_max_token_len_per_gpu
    infer_tokens: int  # rollout.log_prob_max_token_len_per_gpu
    sequence_parallel: int
    tensor_parallel: int
    memory_share: float  # rollout.gpu_memory_utilization
    max_num_seqs: int
    bucket: float  # bytes of checkpoint_engine.update_weights_bucket_megabytes
    offload: bool  # fsdp_config.param_offload and .optimizer_offload
    offload_policy: bool
    steps: int
    own_log_probs: bool  # erpo.trainer.engine in model.external_lib
    unit_temperature: bool  # rollout.temperature is 1
    flash: bool  # flash-attn, with which verl also takes a fused log-softmax
    fused: str | None  # back end of the fused kernels, where model.use_fused_kernels is set
    lora_rank: int
    test_freq: int
    validation_responses: int

    @classmethod
    def from_config(cls, config: DictConfig) -> "RunSettings":
        """Read them from a composed configuration.

        Raises:
            EstimateError: The run uses something that the calculation does not cover.
        """
        _check_covered(config)
        fsdp, model = config.actor_rollout_ref.actor.fsdp_config, config.actor_rollout_ref.model

        def number(name: str, above: float = 0) -> Any:
            return _number(config, name, above)

        actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
        return cls(
            gpus=number("trainer.nnodes") * number("trainer.n_gpus_per_node"),
            gpus_per_node=number("trainer.n_gpus_per_node"),
            batch=number("data.train_batch_size"),
            mini_batch=number(f"{actor}.ppo_mini_batch_size"),
            n=number(f"{rollout}.n"),
            longest=number("data.max_prompt_length") + number("data.max_response_length"),
            max_response=number("data.max_response_length"),
            train_tokens=number(f"{actor}.ppo_max_token_len_per_gpu"),
            infer_tokens=number(f"{rollout}.log_prob_max_token_len_per_gpu"),
            sequence_parallel=number(f"{actor}.fsdp_config.ulysses_sequence_parallel_size"),
            tensor_parallel=number(f"{rollout}.tensor_model_parallel_size"),
            memory_share=number(f"{rollout}.gpu_memory_utilization"),
            max_num_seqs=number(f"{rollout}.max_num_seqs"),
            bucket=number(f"{rollout}.checkpoint_engine.update_weights_bucket_megabytes") * 2**20,
            offload=fsdp.param_offload and fsdp.optimizer_offload,
            offload_policy=fsdp.offload_policy,
            steps=number("trainer.total_training_steps"),
            own_log_probs=own_log_probs(config),
            unit_temperature=float(number(f"{rollout}.temperature")) == 1.0,
            flash=OmegaConf.select(config, ATTENTION, default=None) in (None, FLASH),
            fused=model.fused_kernel_options.impl_backend if model.use_fused_kernels else None,
            lora_rank=number("actor_rollout_ref.model.lora_rank", -1),
            test_freq=number("trainer.test_freq", -math.inf),
            validation_responses=_validation_problems(config) * number(f"{rollout}.val_kwargs.n"),
        )


def _number(config: DictConfig, name: str, above: float) -> float:
    try:
        value = OmegaConf.select(config, name)
    # Of a setting that is calculated from another one.
    except OmegaConfBaseException as error:
        raise EstimateError(f"{name} cannot be read ({str(error).splitlines()[0]}); set it") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value < math.inf:
        raise EstimateError(f"{name} is {value}; set a number" + (f" above {above:g}" if math.isfinite(above) else ""))
    return value


def _check_covered(config: DictConfig) -> None:
    for name in ("trainer.total_training_steps", "actor_rollout_ref.model.path"):
        if OmegaConf.select(config, name) is None:
            raise EstimateError(f"{name} is not set; name an experiment or set it")
    fsdp = "actor_rollout_ref.actor.fsdp_config"
    covered = [
        ("actor_rollout_ref.actor.strategy", "fsdp2"),
        ("actor_rollout_ref.actor.use_dynamic_bsz", True),
        (f"{fsdp}.fsdp_size", -1),
        (f"{fsdp}.model_dtype", "fp32"),
        (f"{fsdp}.dtype", "bfloat16"),
        (f"{fsdp}.optimizer_offload", OmegaConf.select(config, f"{fsdp}.param_offload")),
        ("actor_rollout_ref.actor.use_kl_loss", False),
        ("actor_rollout_ref.model.enable_gradient_checkpointing", True),
        ("actor_rollout_ref.model.use_remove_padding", True),
        ("actor_rollout_ref.model.lora.rank", 0),
        ("trainer.v1.trainer_mode", "sync"),
    ]
    for name, value in covered:
        found = OmegaConf.select(config, name)
        if found != value:
            raise EstimateError(f"the calculation covers {name}={value}, not {found}; set it for the estimate")


def _validation_problems(config: DictConfig) -> int:
    """Problems in the validation sets: rows of the files, or what is known of a set that was not prepared yet."""
    if _number(config, "trainer.test_freq", -math.inf) <= 0:
        return 0
    import pyarrow.parquet as pq

    files = OmegaConf.select(config, "data.val_files") or []
    total = 0
    for file in map(Path, [files] if isinstance(files, str) else files):
        if file.is_file():
            total += pq.read_metadata(file).num_rows
        elif file.stem in _KNOWN_SETS:
            total += _KNOWN_SETS[file.stem]
        else:
            raise EstimateError(
                f"data.val_files names {file}, which does not exist; prepare it, or set data.val_files=[]"
            )
    return total
