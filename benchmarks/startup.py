# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The start of the CPU run: seconds from the start of the process to the end of the first step, by phase.

Most of them are imports: each phase starts a process, or more, which imports torch, verl or vLLM before it does
anything. The times are Ray's own, from the timeline that verl writes when asked.
"""

import json
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.overhead import ON_CPU, our_arguments, run

# A phase and the calls that end it; each begins where the one before ended.
_ENDS = {
    "transfer_queue": ("TransferQueueController.store_config",),
    "data_and_worker_process": ("WorkerDict.__init__",),
    "fsdp2": ("WorkerDict.actor_rollout_init_model",),
    # The trainer imports vLLM and the reward's process starts meanwhile.
    "vllm_server": ("vLLMHttpServer.__init__",),
    "vllm_engine": ("vLLMHttpServer.launch_server",),
    "first_weights": ("WorkerDict.actor_rollout_update_weights",),
    "agent_loop_workers": ("AgentLoopWorkerTQ.__init__", "GlobalRequestLoadBalancer.__init__"),
}


def measure() -> dict[str, Any]:
    """Seconds and shares of the phases.

    Returns:
        See :func:`phases`.

    Raises:
        RuntimeError: The run failed.
    """
    # Ray's folder may still be written to when the run has ended.
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        timeline = folder / "timeline.json"
        arguments = our_arguments(folder / "run", 2, f"ray_kwargs.timeline_json_file={timeline}")
        begin = time.time()
        lines = run(["recipe.erpo.main_erpo", *arguments], folder, RAY_TMPDIR=scratch, **ON_CPU)
        session = next((folder / "ray").glob("session_2*"))
        return phases(json.loads(timeline.read_text()), begin, _session_time(session.name), lines[0].time)


def _session_time(name: str) -> float:
    """When ``ray.init`` began, in seconds since the epoch, from its name ``session_DATE_TIME_MICROSECONDS_PID``."""
    return datetime.strptime(name.rsplit("_", 1)[0], "session_%Y-%m-%d_%H-%M-%S_%f").timestamp()


def phases(timeline: Sequence[dict[str, Any]], begin: float, ray_init: float, first_step: float) -> dict[str, Any]:
    """Divide a start into phases.

    Args:
        timeline: Events of Ray's timeline.
        begin: Start of the process, in seconds since the epoch.
        ray_init: Begin of ``ray.init``.
        first_step: End of the first step.

    Returns:
        ``total``, in seconds; ``seconds`` and ``share`` by phase, in their order.

    Raises:
        RuntimeError: A call that ends a phase is not in the timeline, as under another version of verl.
    """
    calls: dict[str, float] = {}  # end of each method's first call
    submitted: dict[str, list[float]] = {}  # by process: when it asked for tasks and actors
    runner = ""
    for event in sorted(timeline, key=lambda event: event.get("ts", 0)):
        start = event.get("ts", 0) / 1e6
        category = event["cat"]
        if category == "submit_task":
            submitted.setdefault(event["tid"], []).append(start)
        elif category.startswith("task::"):
            call = category.rsplit(":", 1)[-1]
            calls.setdefault(call, start + event["dur"] / 1e6)
            if call.endswith(".run"):
                runner = event["tid"]
    missing = {name for names in _ENDS.values() for name in names} - calls.keys()
    if missing or not runner:
        raise RuntimeError(
            f"Ray's timeline lacks {sorted(missing) or 'the task runner'}; adapt the phases to this verl."
        )
    ends = {
        "driver": ray_init,
        "ray_init": min(min(times) for times in submitted.values()),
        "task_runner": min(submitted[runner]),
        **{phase: max(calls[name] for name in names) for phase, names in _ENDS.items()},
        "first_step": first_step,
    }
    seconds = {phase: end - last for (phase, end), last in zip(ends.items(), [begin, *ends.values()], strict=False)}
    total = first_step - begin
    return {"total": total, "seconds": seconds, "share": {phase: s / total for phase, s in seconds.items()}}
