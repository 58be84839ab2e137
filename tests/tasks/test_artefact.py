# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a caller keeps of an artefact's making: nothing."""

import ctypes
from pathlib import Path

import pytest

from erpo.tasks.artefact import build_once


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS"))


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="the C library is not glibc")
def test_the_memory_of_the_making_is_returned(tmp_path):
    last = []
    held = []

    def build(new: Path) -> dict:
        # Blocks that the allocator takes from its heap, and a last one that keeps it from shrinking by itself.
        blocks = [b"x" * 60_000 for _ in range(5_000)]
        last.append(blocks[-1])
        held.append(_resident_mb())
        (new / "file").write_text("")
        return {}

    before = _resident_mb()
    build_once(tmp_path / "artefact", 1, {}, build)
    assert held[0] - before > 200
    assert _resident_mb() - before < 100
