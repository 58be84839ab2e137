# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Real runs: Ray, TransferQueue, FSDP2 over gloo and vLLM, on an untrained two-layer model."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
import pytest
from transformers import PreTrainedModel

from erpo.runs import read_groups
from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array, on_grid

RUN_TIMEOUT = 900  # seconds; a run takes about 100, and three times that on a machine that others keep busy


# ERPO that drops nothing and raises fast, so that few steps have prompts at T 1, 1.5 and 2.
RAISED_FAST = (
    "method=erpo",
    "erpo.schedule.linear.dt=0.5",
    "erpo.groups.drop=[]",
    "algorithm.filter_groups.enable=false",
)


def prepare(folder: Path, data_source: str, kinds: Sequence[str]) -> PreTrainedModel:
    """Write an untrained model and one prompt for each kind of outcome that the scripted reward knows; the model."""
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, seed=0)
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [
        {
            "data_source": data_source,
            "prompt": [{"role": "user", "content": f"{10 + i}+{i + 2}="}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": kind},
            "extra_info": {"index": i, "prompt_id": f"{kind}-{i}"},
        }
        for i, kind in enumerate(kinds)
    ]
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
    return model


def small_run(data: Path, run_folder: Path, *overrides: str) -> list[str]:
    """Settings of the CPU experiment, shrunk to eight prompts of four responses a step."""
    return [
        "experiment=cpu_arithmetic",
        "~arithmetic",
        f"data.train_files={data}/train.parquet",
        f"data.val_files={data}/train.parquet",
        "data.train_batch_size=8",
        "data.max_response_length=16",
        f"actor_rollout_ref.model.path={data}/model",
        "actor_rollout_ref.actor.ppo_mini_batch_size=8",
        "actor_rollout_ref.actor.optim.lr=2.0e-4",
        "actor_rollout_ref.rollout.n=4",
        "actor_rollout_ref.rollout.val_kwargs.n=1",
        f"reward.custom_reward_function.path={Path(__file__).parent / 'scripted_reward.py'}",
        f"trainer.default_local_dir={run_folder}",
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=2",
        "ray_kwargs.ray_init.log_to_driver=true",  # the output of all processes belongs into a failed test's report
        *overrides,
    ]


@dataclass
class Run:
    """A training in a process of its own."""

    process: subprocess.Popen
    log: Path

    def wait(self) -> str:
        """Wait for the end; the output, which must be that of a success."""
        try:
            code = self.process.wait(RUN_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.kill()
            pytest.fail(f"the run did not end in {RUN_TIMEOUT} s:\n{self.tail()}")
        assert code == 0, self.tail()
        return self.log.read_text()

    def kill(self) -> None:
        """kill -9 of the run and of everything that it started, as a power cut would."""
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()

    def tree(self) -> list[psutil.Process]:
        """The run and everything that it started; nothing once it has ended."""
        try:
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def tail(self) -> str:
        return self.log.read_text()[-6000:]


def start(log: Path, module: str, arguments: list[str], **environment: str) -> Run:
    """Start ``python -m module arguments`` with its output in ``log``."""
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=log.parent,
            env={**os.environ, "HYDRA_FULL_ERROR": "1", **environment},
        )
    return Run(process, log)


def wait_for(run: Run, path: Path) -> None:
    """Wait until a file of a run appears."""
    end = time.monotonic() + RUN_TIMEOUT
    while not path.exists():
        assert run.process.poll() is None, run.tail()
        if time.monotonic() > end:
            run.kill()
            pytest.fail(f"{path.name} did not appear in {RUN_TIMEOUT} s:\n{run.tail()}")
        time.sleep(0.02)


def replay(run_folder: Path, schedule: TrackerConfig, last: int | None = None) -> PromptTracker:
    """Tell a new tracker what the group log says up to step `last` (None: all of it).

    It is checked that every group was sampled at the tracker's temperature.

    The log and the state on disk were written by different code at different times; they agree only if every group was
    observed once and sampled as the tracker said.
    """
    tracker = PromptTracker(schedule)
    groups = read_groups(run_folder)
    for _, step in groups[groups["step"] <= (last or groups["step"].max())].groupby("step"):
        keys = keys_array([bytes.fromhex(key) for key in step["key"]])
        sampled = step["temperature"].to_numpy()
        if tracker.attaches_temperatures and len(set(step["key"])) == len(step):
            assert abs(on_grid(tracker.temperatures_for(keys)) - sampled).max() < 1e-4
        tracker.observe(
            GroupOutcomes(
                keys=keys,
                outcomes=step["outcome"].map(lambda name: Outcome[name.upper()]).to_numpy(),
                accuracies=(step["correct"] / step["n"]).to_numpy(),
                sizes=step["n"].to_numpy(),
                temperatures=sampled.astype("f8"),
                steps=step["step"].to_numpy(),
            )
        )
    return tracker


def same_history(one: PromptTracker, other: PromptTracker) -> None:
    """Assert that two trackers know the same of every prompt."""
    frames = [tracker.frame().sort_values("key").reset_index(drop=True) for tracker in (one, other)]
    pd.testing.assert_frame_equal(*frames, check_exact=False, rtol=1e-6)
