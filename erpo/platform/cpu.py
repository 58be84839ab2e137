# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The CPU as a verl platform: device ``cpu``, process groups over gloo, Ray's ``GPU`` resource as a plain count."""

import contextlib
import os
import types
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry, set_platform

_NO_OPS = (
    "empty_cache",
    "ipc_collect",
    "manual_seed",
    "manual_seed_all",
    "reset_peak_memory_stats",
    "set_device",
    "synchronize",
)
_MEMORY_COUNTERS = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")


class _CpuDeviceModule(types.ModuleType):
    """``torch.cpu`` with the functions that verl expects of an accelerator's module."""

    def __getattr__(self, name: str) -> Any:
        if name in _NO_OPS:
            return lambda *args, **kwargs: None
        if name in _MEMORY_COUNTERS:
            return lambda *args, **kwargs: 0
        shims: dict[str, Callable[..., Any]] = {
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "get_device_name": lambda *args: "cpu",
            "get_rng_state": lambda *args: torch.get_rng_state(),
            "set_rng_state": lambda state, *args: torch.set_rng_state(state),
            "mem_get_info": lambda *args: (psutil.virtual_memory().available, psutil.virtual_memory().total),
        }
        return shims[name] if name in shims else getattr(torch.cpu, name)


_device_module = _CpuDeviceModule("erpo_cpu_device")


class PlatformCPU(PlatformBase):
    """Runs verl's workers on the host's processor."""

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> types.ModuleType:
        return _device_module

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        # Never found by verl's own detection: this platform is for those who ask for it by name.
        return False

    def current_device(self) -> Any:
        # verl moves batches with `.to(get_device_id())`, and an index would mean an accelerator.
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        return None

    def synchronize(self, device_index: int | None = None) -> None:
        return None

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        return None

    def empty_cache(self) -> None:
        return None

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        return None

    def profiler_stop(self) -> None:
        return None

    def cudart(self) -> None:
        return None


def register() -> None:
    """Make the platform known to verl under the name ``cpu`` and let verl's CUDA engine classes serve it."""
    PlatformRegistry.register(platform="cpu")(PlatformCPU)
    # verl's FSDP engines are registered for cuda and npu only, though nothing in them is specific to either.
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")
    os.environ.setdefault("VERL_ENGINE_VENDOR", "nvidia")


def activate() -> None:
    """Choose the CPU platform for this process and for all that it starts.

    Hydra imports verl to find verl's settings, so verl is loaded, and has looked for accelerators, before the
    experiment can say that it wants none.
    """
    os.environ["VERL_PLATFORM"] = "cpu"
    # Ten processes share a few cores: threads of their own, bound to cores, would only wait for each other. A tenth of
    # the memory, vLLM's default, is far more cache than a tiny model needs.
    for name, value in (
        ("OMP_NUM_THREADS", "1"),
        ("VLLM_CPU_OMP_THREADS_BIND", "nobind"),
        ("VLLM_CPU_KVCACHE_SPACE", "1"),
    ):
        os.environ.setdefault(name, value)
    from erpo.platform import patches

    # verl's plug-in did neither, where it was imported before this choice.
    register()
    patches.patch_verl()
    set_platform(PlatformCPU())
