# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The CPU as a verl platform: device ``cpu``, process groups over gloo, Ray's ``GPU`` resource as a plain count.

Entry point of group ``verl.plugins``: verl imports this module in every process that imports verl, in the midst of its
own import. So no module that imports verl may be imported here, or it would find itself half imported.
"""

import contextlib
import os
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from verl.plugin.platform import PlatformBase, PlatformRegistry

from erpo.platform import is_chosen
from erpo.trainer import default_folder

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
            "mem_get_info": lambda *args: _memory(),
        }
        return shims[name] if name in shims else getattr(torch.cpu, name)


def _memory() -> tuple[int, int]:
    """Bytes of memory that are free, and all."""
    import psutil  # Not with the others, because this module is imported in every environment.

    memory = psutil.virtual_memory()
    return memory.available, memory.total


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


def prepare() -> None:
    """Make the platform known to verl as ``cpu``, let verl's CUDA engine classes serve it, and patch verl."""
    from erpo.platform import patches

    PlatformRegistry.register(platform="cpu")(PlatformCPU)
    # verl's FSDP engines are registered for cuda and npu only, though nothing in them is specific to either.
    os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")
    os.environ.setdefault("VERL_ENGINE_VENDOR", "nvidia")
    patches.patch_verl()


# Here, because whoever composes our settings imports verl for its own: the default folder's name needs it.
default_folder.register()

if is_chosen():
    prepare()
