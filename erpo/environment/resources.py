# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""CPUs and GPUs that Ray must have for a run to start: with too few CPUs verl waits for ever, without a word."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from erpo.environment.finding import Finding, Level
from erpo.trainer.config import ConfigError

# verl 0.9.1: ResourcePoolManager.max_colocate_count, the CPUs of every GPU's place.
CPUS_PER_GPU = 3
# The task runner and TransferQueue's controller; and one that is free, without which Ray places no other actor.
_CPUS_BESIDE = 3
_ENGINE_SIZES = ("tensor_model_parallel_size", "data_parallel_size", "pipeline_model_parallel_size")
_UNITS = "transfer_queue.backend.SimpleStorage.num_data_storage_units"


@dataclass(frozen=True)
class Needs:
    """What a run takes of Ray.

    Attributes:
        cpus: CPUs, in all nodes.
        gpus: GPUs, in all nodes.
        storage_units: TransferQueue's storage actors, each of which takes a CPU.
    """

    cpus: int
    gpus: int
    storage_units: int


def needs(config: DictConfig) -> Needs:
    """What verl 0.9.1 asks Ray for, with these settings."""
    trainer, reward_model = config.trainer, config.reward.reward_model
    gpus = trainer.nnodes * trainer.n_gpus_per_node
    if reward_model.enable and reward_model.enable_resource_pool:
        gpus += reward_model.nnodes * reward_model.n_gpus_per_node
    rollout = config.actor_rollout_ref.rollout
    if trainer.v1.trainer_mode == "separate_async":
        gpus += (rollout.nnodes or 0) * (rollout.n_gpus_per_node or 0)
    simple = config.transfer_queue.backend.storage_backend == "SimpleStorage"
    units = int(OmegaConf.select(config, _UNITS, default=0)) if simple else 0
    return Needs(_CPUS_BESIDE + units + CPUS_PER_GPU * gpus, gpus, units)


def joins(config: DictConfig) -> str | None:
    """Address of the running Ray cluster that the run joins; None where it starts one of its own."""
    from ray._private.services import canonicalize_bootstrap_address

    named = OmegaConf.select(config, "ray_kwargs.ray_init.address", default=None)
    if named is not None and "://" in str(named):
        return str(named)
    try:
        address = canonicalize_bootstrap_address(named)
    except (ConnectionError, ValueError) as error:
        raise ConfigError(f"ray_kwargs.ray_init.address={named}: {error}") from error
    return str(address) if address else None


def own_resources(config: DictConfig) -> dict[str, float]:
    """What a Ray cluster that is started on this machine has: counts that the settings name, else what Ray would find.

    Args:
        config: The composed settings.
    """
    from ray._private.accelerators import get_accelerator_manager_for_resource
    from ray._private.utils import get_num_cpus

    init = config.ray_kwargs.ray_init
    # Of any vendor, and without those that CUDA_VISIBLE_DEVICES and its like hide.
    manager = get_accelerator_manager_for_resource("NPU" if config.trainer.device == "npu" else "GPU")
    gpus = manager.get_current_node_num_accelerators()
    visible = manager.get_current_process_visible_accelerator_ids()
    if visible is not None:
        gpus = min(gpus, len(visible))
    named = {"CPU": init.get("num_cpus"), "GPU": init.get("num_gpus")}
    found = {"CPU": get_num_cpus(), "GPU": gpus}
    return {name: found[name] if value is None else value for name, value in named.items()}


def resources_findings(config: DictConfig, available: Mapping[str, Any], where: str) -> list[Finding]:
    """Whether CPUs and GPUs suffice.

    Args:
        config: The composed settings.
        available: Ray's resources by name.
        where: What has them, for the message.
    """
    needed = needs(config)
    cpus, gpus = int(available.get("CPU", 0)), int(available.get("GPU", available.get("NPU", 0)))
    trainer = config.trainer
    return [
        *_engine_findings(config),
        Finding.judged(
            "GPUs",
            gpus >= needed.gpus,
            f"{where} has {gpus}, the run takes {needed.gpus}",
            f"lower trainer.n_gpus_per_node={trainer.n_gpus_per_node} or trainer.nnodes={trainer.nnodes}, add GPUs, or "
            "try experiment=cpu_arithmetic, which needs none",
        ),
        Finding.judged(
            "CPUs",
            cpus >= needed.cpus,
            f"{where} has {cpus}, the run's actors take {needed.cpus}",
            f"lower {_UNITS}={needed.storage_units}, or let Ray count more than there are: "
            f"ray_kwargs.ray_init.num_cpus={needed.cpus}",
        ),
    ]


def _engine_findings(config: DictConfig) -> Iterator[Finding]:
    """verl divides the GPUs among the rollout's engines when the models are loaded."""
    rollout, trainer = config.actor_rollout_ref.rollout, config.trainer
    places = {}
    if trainer.v1.trainer_mode == "separate_async":
        places["actor_rollout_ref.rollout"] = rollout
    # verl asks it of the trainer's GPUs in any case, unless they hold no rollout.
    if config.actor_rollout_ref.get("hybrid_engine", True):
        places["trainer"] = trainer
    sizes = {f"actor_rollout_ref.rollout.{name}": rollout[name] for name in _ENGINE_SIZES}
    engine = math.prod(sizes.values())
    for where, devices in places.items():
        gpus = (devices.nnodes or 0) * (devices.n_gpus_per_node or 0)
        if gpus and gpus % engine and not OmegaConf.select(rollout, "disaggregation.enabled", default=False):
            named = " and ".join(f"{name}={size}" for name, size in sizes.items() if size > 1)
            found = f"an engine of the rollout takes {engine} ({named}), which does not divide the {gpus} of {where}"
            yield Finding("GPUs", Level.ERROR, found, f"set {next(n for n, size in sizes.items() if size > 1)} to 1")


def cluster_problem(config: DictConfig, available: Mapping[str, Any]) -> str | None:
    """What a Ray cluster lacks for a run, in a sentence; None where it has all.

    Args:
        config: The composed settings.
        available: ``ray.cluster_resources()``.
    """
    lacking = (found for found in resources_findings(config, available, "the cluster") if found.level is Level.ERROR)
    return next((finding.sentence() for finding in lacking), None)
