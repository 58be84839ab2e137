# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The choice of the CPU, by a process that has found in its settings that it is to run there."""

import os

from verl.plugin.platform import set_platform

from erpo.platform import verl_plugin


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
    # verl's plug-in did nothing, where it was imported before this choice.
    verl_plugin.prepare()
    set_platform(verl_plugin.PlatformCPU())
