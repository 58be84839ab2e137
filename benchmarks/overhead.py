# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The time of a step: ERPO with every prompt at T = 1 against verl's own ``main_ppo``, in pairs of runs.

Ours goes the whole way (temperature column, agent loops, engine, observation, tracker, group log) without RA or dropped
groups. verl's run has the same resolved settings without ERPO's. Only the sampled responses differ, from run to run.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from erpo.environment.attention import choose_attention
from recipe.erpo.main_erpo import CONFIG_FOLDER

# The first steps fill caches.
LEFT_OUT = 2
_PARTS = ("gen", "old_log_prob", "adv", "update_actor", "update_weights")
# What our entry point sets on a CPU by itself and verl's does not; the same for both.
ON_CPU = {
    "VERL_PLATFORM": "cpu",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}
_LOOK_EVERY = 0.05  # seconds


@dataclass(frozen=True)
class Line:
    """What a run had logged when a step ended.

    Attributes:
        time: When verl's logger wrote the line, in seconds since the epoch.
        cpu: CPU seconds that all processes of the run had used.
        metrics: The line itself.
    """

    time: float
    cpu: float
    metrics: dict[str, float]


@dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
        seconds: From the previous step's line to this one's: all of the step, logging included.
        cpu: CPU seconds of all processes meanwhile; other work on the machine touches them less.
        timed: Seconds that verl's own timer gives for the step, which ends before metrics are computed and logged.
        parts: Seconds by part of the step, by verl's timers.
        tokens: Mean length of its responses.
    """

    seconds: float
    cpu: float
    timed: float
    parts: dict[str, float]
    tokens: float


def measure(steps: int = 24, pairs: int = 4) -> dict[str, Any]:
    """Ratios of ours to verl's, and the seconds behind them.

    Args:
        steps: Steps of every run; the first two are left out.
        pairs: Pairs of runs; the order within a pair alternates.

    Returns:
        See :func:`compare`.

    Raises:
        ValueError: No step would be left.
        RuntimeError: A run failed.
    """
    if steps <= LEFT_OUT or pairs < 1:
        raise ValueError(
            f"{steps} steps and {pairs} pairs leave nothing to compare; take {LEFT_OUT + 1} steps or more."
        )
    runs: dict[str, list[list[Step]]] = {"ours": [], "verl": []}
    with TemporaryDirectory() as scratch:
        for pair in range(pairs):
            for name in list(runs) if pair % 2 == 0 else reversed(runs):
                print(f"pair {pair + 1} of {pairs}: {name}, {steps} steps", flush=True)
                folder = Path(scratch) / f"{pair}-{name}"
                folder.mkdir()
                arguments = our_arguments(folder / "run", steps)
                command = ["recipe.erpo.main_erpo", *arguments]
                if name == "verl":
                    OmegaConf.save(plain_settings(arguments), folder / "plain.yaml")
                    command = ["verl.trainer.main_ppo", "--config-path", str(folder), "--config-name", "plain"]
                runs[name].append(steps_of(run(command, folder, **ON_CPU)))
    return {"steps": steps, "pairs": pairs, **compare(runs["ours"], runs["verl"])}


def our_arguments(run_folder: Path, steps: int, *more: str) -> list[str]:
    """Arguments of ERPO's entry point: the CPU experiment with one temperature, and nothing but training."""
    return [
        "experiment=cpu_arithmetic",
        "method=erpo",
        "erpo.schedule.name=constant",
        "erpo.schedule.constant.temperature=1.0",
        "erpo.groups.drop=[]",
        "erpo.ra.enable=false",
        "algorithm.filter_groups.enable=false",
        f"trainer.total_training_steps={steps}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=-1",
        "trainer.logger=[file]",
        f"trainer.default_local_dir={run_folder}",
        *more,
    ]


def composed(arguments: Sequence[str]) -> DictConfig:
    """The settings that ERPO's entry point composes of its arguments, resolved."""
    with initialize_config_dir(str(CONFIG_FOLDER), version_base=None):
        settings = compose("erpo_trainer", overrides=list(arguments))
    OmegaConf.set_struct(settings, False)
    OmegaConf.resolve(settings)
    return settings


def plain_settings(arguments: Sequence[str]) -> DictConfig:
    """The same settings for verl's own entry point: without the section ``erpo`` and without our hooks."""
    settings = composed(arguments)
    choose_attention(settings)
    # verl has no setting for how often it looks for finished groups, but one for who builds the buffer that does.
    sampler = settings.trainer.v1.sampler
    sampler.custom_sampler = {"path": str(Path(__file__).resolve()), "name": replay_buffer.__name__}
    sampler.sampler_kwargs = {"poll_interval": settings.erpo.poll_interval}
    settings.actor_rollout_ref.model.external_lib = None
    settings.actor_rollout_ref.rollout.agent.agent_loop_manager_class = None
    del settings.erpo
    settings.pop("arithmetic", None)
    return settings


def replay_buffer(sampler_kwargs: DictConfig, **arguments: Any) -> Any:
    """verl's own replay buffer that looks for finished groups as often as ours; verl's run calls it by its settings."""
    from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

    return ReplayBuffer(sampler_kwargs=sampler_kwargs, poll_interval=sampler_kwargs.poll_interval, **arguments)


def run(command: Sequence[str], folder: Path, **environment: str) -> list[Line]:
    """Run ``python -m command`` in `folder` and note when it logged each step, and what it had used by then.

    Args:
        command: Module and arguments of a training that logs by verl's logger ``file``.
        folder: Where it runs, and leaves ``log`` and ``metrics.jsonl``.
        environment: Variables of its environment.

    Returns:
        The lines of ``metrics.jsonl``.

    Raises:
        RuntimeError: The run failed; with the end of its output.
    """
    output, metrics = folder / "log", folder / "metrics.jsonl"
    process = _start(command, folder, environment)
    clocks: list[tuple[float, float]] = []
    try:
        while process.poll() is None:
            time.sleep(_LOOK_EVERY)
            lines = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
            if lines > len(clocks):
                clocks += [(metrics.stat().st_mtime, _cpu_seconds(process.pid))] * (lines - len(clocks))
    finally:
        # Of use only when this process is interrupted.
        process.terminate()
    if process.returncode:
        raise RuntimeError(f"{command[0]} ended with code {process.returncode}: {output.read_text()[-2000:]}")
    logged = [json.loads(line)["data"] for line in metrics.read_text().splitlines()]
    return [Line(*clock, values) for clock, values in zip(clocks, logged, strict=True)]


def kill_when(ready: Callable[[], bool], command: Sequence[str], folder: Path, **environment: str) -> None:
    """Start a training as :func:`run` does, and kill it and all that it started at a moment.

    Args:
        ready: Whether the moment has come.
        command: Module and arguments of a training.
        folder: Where it runs.
        environment: Variables of its environment.

    Raises:
        RuntimeError: It ended before.
    """
    process = _start(command, folder, environment)
    try:
        while not ready():
            if process.poll() is not None:
                raise RuntimeError(f"{command[0]} ended too early: {(folder / 'log').read_text()[-2000:]}")
            time.sleep(_LOOK_EVERY)
    finally:
        for one in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        process.wait()


def _start(command: Sequence[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen:
    with (folder / "log").open("w") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *command],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "VERL_FILE_LOGGER_PATH": str(folder / "metrics.jsonl"), **environment},
        )


def _cpu_seconds(pid: int) -> float:
    """CPU time that a process and all that it started have used, those that ended left out."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                total += sum(process.cpu_times()[:2])
    return total


def steps_of(lines: Sequence[Line]) -> list[Step]:
    """The steps of a run but the first ones (``LEFT_OUT``)."""
    steps = []
    for before, line in pairwise(lines[LEFT_OUT - 1 :]):
        parts = {part: line.metrics[f"timing_s/{part}"] for part in _PARTS}
        seconds, timed = line.time - before.time, line.metrics["timing_s/step"]
        parts["other"] = timed - sum(parts.values())
        parts["after"] = seconds - timed
        steps.append(Step(seconds, line.cpu - before.cpu, timed, parts, line.metrics["response_length/mean"]))
    return steps


def compare(ours: Sequence[Sequence[Step]], verl: Sequence[Sequence[Step]]) -> dict[str, Any]:
    """Compare paired runs.

    Args:
        ours: Steps of our runs.
        verl: Steps of verl's runs, pair by pair.

    Returns:
        ``step_ratio``, of the whole step; ``cpu_ratio``, of its CPU seconds; ``timer_ratio``, of verl's own timer;
        ``token_ratio``, of seconds per token of a response: each the median over pairs of the ratio of a run's medians,
        with its lowest and highest value as ``*_range``. Besides, medians over all steps: ``seconds``, ``cpu_seconds``,
        ``tokens`` (mean length of a response) and ``parts``, ours beside verl's.
    """
    quantities = {
        "step": lambda step: step.seconds,
        "cpu": lambda step: step.cpu,
        "timer": lambda step: step.timed,
        "token": lambda step: step.seconds / step.tokens,
    }
    result: dict[str, Any] = {}
    for name, quantity in quantities.items():
        ratios = [median(map(quantity, a)) / median(map(quantity, b)) for a, b in zip(ours, verl, strict=True)]
        result[f"{name}_ratio"] = median(ratios)
        result[f"{name}_range"] = [min(ratios), max(ratios)]
    every = {"ours": [step for run in ours for step in run], "verl": [step for run in verl for step in run]}
    result["seconds"] = {name: median(step.seconds for step in steps) for name, steps in every.items()}
    result["cpu_seconds"] = {name: median(step.cpu for step in steps) for name, steps in every.items()}
    result["tokens"] = {name: median(step.tokens for step in steps) for name, steps in every.items()}
    result["parts"] = {
        part: {name: median(step.parts[part] for step in steps) for name, steps in every.items()}
        for part in every["ours"][0].parts
    }
    return result
