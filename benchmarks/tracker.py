# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tracker at 10^4 to 10^7 prompts: a batch of 512 groups, memory per prompt, saving and loading."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig
from erpo.tracker.keys import KEY_DTYPE, KeyArray
from erpo.tracker.storage import load_state, save_state

SIZES = (10**4, 10**5, 10**6, 10**7)
BATCH = 512
REPETITIONS = 200
_CHUNK = 10**5
# The alternative holds an object per prompt; beyond this it takes minutes and gigabytes.
_LARGEST_ALTERNATIVE = 10**6
_NO_HISTORY = {"visits": 0, "all_correct": 0, "streak": 0, "level": 0, "accuracy": 0.0, "step": -1, "revivals": 0}
_NO_HISTORY["last"] = -1


class DictTracker:
    """The alternative: a dictionary of Python objects with the linear rule, as one would write it in an afternoon."""

    def __init__(self, dt: float = 0.2, t_max: float = 1.5) -> None:
        self.dt, self.t_max = dt, t_max
        self.prompts: dict[bytes, dict[str, float]] = {}

    def temperatures_for(self, keys: list[bytes]) -> list[float]:
        levels = [self.prompts[key]["level"] if key in self.prompts else 0 for key in keys]
        return [min(1.0 + self.dt * level, self.t_max) for level in levels]

    def observe(self, keys: list[bytes], outcomes: list[int], accuracies: list[float], step: int) -> None:
        for key, outcome, accuracy in zip(keys, outcomes, accuracies, strict=True):
            record = self.prompts.get(key)
            if record is None:
                record = self.prompts[key] = dict(_NO_HISTORY)
            record["visits"] += 1
            record["revivals"] += outcome == Outcome.MIXED and record["last"] == Outcome.ALL_CORRECT
            if outcome == Outcome.ALL_CORRECT:
                record["all_correct"] += 1
                record["streak"] += 1
                record["level"] += 1
            else:
                record["streak"] = 0
                if outcome == Outcome.ALL_WRONG:
                    record["level"] = 0
            record["accuracy"], record["step"], record["last"] = accuracy, step, outcome


def measure() -> dict[str, Any]:
    """Seconds, bytes and ratios by number of prompts."""
    return {f"{prompts:.0e}".replace("+0", ""): _measure_at(prompts) for prompts in SIZES}


def _measure_at(prompts: int) -> dict[str, float]:
    generator = np.random.default_rng(0)
    keys = generator.integers(0, 256, size=(prompts, 16), dtype=np.uint8).view(KEY_DTYPE)[:, 0]
    before = psutil.Process().memory_info().rss
    tracker = PromptTracker(TrackerConfig(name="linear"))
    for start in range(0, prompts, _CHUNK):
        tracker.observe(_groups(keys[start : start + _CHUNK], tracker, generator, step=0))
    after = psutil.Process().memory_info().rss
    batches = [generator.choice(prompts, size=BATCH, replace=False) for _ in range(REPETITIONS)]
    seconds = []
    for step, rows in enumerate(batches, start=1):
        chosen = keys[rows]
        groups = _groups(chosen, tracker, generator, step)
        begin = time.perf_counter()
        tracker.temperatures_for(chosen)
        tracker.observe(groups)
        seconds.append(time.perf_counter() - begin)
    result = {"batch_ms": 1e3 * median(seconds), "bytes_per_prompt": (after - before) / prompts}
    with TemporaryDirectory() as folder:
        begin = time.perf_counter()
        save_state(tracker, Path(folder) / "state")
        result["save_s"] = time.perf_counter() - begin
        begin = time.perf_counter()
        load_state(PromptTracker(TrackerConfig(name="linear")), Path(folder) / "state")
        result["load_s"] = time.perf_counter() - begin
    if prompts <= _LARGEST_ALTERNATIVE:
        result["batch_ratio_to_dict"] = result["batch_ms"] / _dict_batch_ms(keys, batches, generator)
    return result


def _groups(keys: KeyArray, tracker: PromptTracker, generator: np.random.Generator, step: int) -> GroupOutcomes:
    outcomes = generator.choice([Outcome.ALL_CORRECT, Outcome.MIXED, Outcome.ALL_WRONG], size=len(keys))
    return GroupOutcomes(
        keys=keys,
        outcomes=outcomes.astype(np.int8),
        accuracies=np.select([outcomes == Outcome.ALL_CORRECT, outcomes == Outcome.MIXED], [1.0, 0.5], 0.0),
        sizes=np.full(len(keys), 8, dtype=np.int32),
        temperatures=tracker.temperatures_for(keys),
        steps=np.full(len(keys), step, dtype=np.int64),
    )


def _dict_batch_ms(keys: KeyArray, batches: list[np.ndarray], generator: np.random.Generator) -> float:
    tracker = DictTracker()
    every = [key.tobytes() for key in keys]
    outcomes = generator.integers(0, 3, size=len(every)).tolist()
    tracker.observe(every, outcomes, [0.5] * len(every), step=0)
    seconds = []
    for step, rows in enumerate(batches, start=1):
        chosen = [every[row] for row in rows]
        kinds, accuracies = [outcomes[row] for row in rows], [0.5] * len(rows)
        begin = time.perf_counter()
        tracker.temperatures_for(chosen)
        tracker.observe(chosen, kinds, accuracies, step)
        seconds.append(time.perf_counter() - begin)
    return 1e3 * median(seconds)
