# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""GPUs, driver, shared memory and disk of this machine."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from erpo.environment.finding import Finding, Level

_GIB = 2**30
# Where NCCL and Ray exchange data between processes; a container has 64 MB unless it is told otherwise.
_SHARED_MEMORY = Path("/dev/shm")
_SHARED_MEMORY_NEEDED = 8 * _GIB
# Ray stops keeping objects on a disk that is fuller than this.
_RAY_DISK_LIMIT = 0.95


@dataclass(frozen=True)
class Gpu:
    """A GPU as the driver names it.

    Attributes:
        name: Its name.
        memory: Bytes that it has.
        driver: Version of the driver.
    """

    name: str
    memory: float
    driver: str


def gpus() -> list[Gpu]:
    """The GPUs that ``nvidia-smi`` lists; none where it does not run."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in lines:
        fields = [part.strip() for part in line.split(",")]
        if len(fields) == 3 and fields[1].isdigit():
            found.append(Gpu(fields[0], float(fields[1]) * 2**20, fields[2]))
    return found


def gpu_findings(listed: list[Gpu]) -> Iterator[Finding]:
    """What GPUs there are, whether torch can use them, and NCCL's version."""
    import torch

    if not listed:
        yield Finding(
            "GPU", Level.ERROR, "nvidia-smi lists none", "install NVIDIA's driver, or give the container GPUs"
        )
        return
    kinds = ", ".join(sorted({f"{gpu.name}, {gpu.memory / _GIB:.0f} GiB" for gpu in listed}))
    yield Finding("GPU", Level.OK, f"{len(listed)} x {kinds}")
    built, driver = torch.version.cuda, listed[0].driver
    if built is None:
        yield Finding("CUDA", Level.ERROR, f"torch {torch.__version__} is built without it", 'pip install -e ".[gpu]"')
    elif not torch.cuda.is_available():
        yield Finding(
            "CUDA",
            Level.ERROR,
            f"torch was built for CUDA {built}, which it cannot use with driver {driver}",
            "install a newer driver, or unset CUDA_VISIBLE_DEVICES",
        )
    else:
        yield Finding("CUDA", Level.OK, f"torch for CUDA {built}, driver {driver}")
        version = ".".join(map(str, torch.cuda.nccl.version()))
        yield Finding("NCCL", Level.OK, version)


def shared_memory_finding() -> Finding:
    """Free shared memory."""
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:
        return Finding("shared memory", Level.WARNING, f"{_SHARED_MEMORY} is not there", "docker: --ipc=host")
    return Finding.judged(
        "shared memory",
        free >= _SHARED_MEMORY_NEEDED,
        f"{free / _GIB:.1f} GiB free in {_SHARED_MEMORY}",
        "docker: --ipc=host or --shm-size=32g",
        Level.WARNING,
    )


def memory_finding() -> Finding:
    """Memory of the host."""
    memory = psutil.virtual_memory()
    return Finding("memory", Level.OK, f"{memory.available / _GIB:.0f} of {memory.total / _GIB:.0f} GiB available")


def disk_findings(
    run_folder: Path, checkpoint: float | None, kept: int | None, ray_folder: str | None = None
) -> Iterator[Finding]:
    """Free space for checkpoints, and for Ray.

    Args:
        run_folder: Where checkpoints go; need not exist.
        checkpoint: Bytes of one, where they are known.
        kept: Checkpoints that are kept; None for all.
        ray_folder: Where Ray keeps its files; None for its own choice.
    """
    disk = shutil.disk_usage(_nearest(run_folder))
    found = f"{disk.free / _GIB:.0f} GiB free for {run_folder}"
    # verl writes a checkpoint before it removes the oldest.
    number = kept + 1 if isinstance(kept, int) else 2
    if checkpoint is None:
        yield Finding("disk", Level.OK, found)
    elif disk.free < number * checkpoint:
        yield Finding(
            "disk",
            Level.ERROR,
            f"{found}, {number} checkpoints of {checkpoint / _GIB:.0f} GiB take more",
            "set trainer.default_local_dir to a larger disk",
        )
    else:
        yield Finding("disk", Level.OK, f"{found}, a checkpoint takes {checkpoint / _GIB:.0f} GiB")
    from ray._common.utils import get_default_ray_temp_dir

    folder = Path(ray_folder or get_default_ray_temp_dir())
    ray = shutil.disk_usage(_nearest(folder))
    full = ray.used / ray.total
    yield Finding.judged(
        "Ray's disk",
        full < _RAY_DISK_LIMIT,
        f"the disk of {folder} is {full:.0%} full",
        "make room, or set +ray_kwargs.ray_init._temp_dir=FOLDER",
    )


def _nearest(folder: Path) -> Path:
    folder = folder.expanduser().absolute()
    while not folder.exists():
        folder = folder.parent
    return folder
