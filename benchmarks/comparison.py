# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The methods side by side through the real trainer: ``python -m benchmarks.comparison run --out DIR``.

Every run ends at the same number of generated tokens and is a folder of its own; a comparison that was stopped goes on
where it was. ``python -m benchmarks.comparison results DIR --out FOLDER`` writes tables and figures.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import pandas as pd
import torch
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from benchmarks.comparison_results import EVALUATIONS_FILE, write_results
from erpo.runs import read_groups
from erpo.tasks.arithmetic.base import load_base
from erpo.tasks.arithmetic.sampling import group_accuracies
from erpo.tasks.arithmetic.task import make_pools

TOKEN_BUDGET = 125_000
TEST_PROMPTS = 256
SAMPLES = 8
MODEL = "actor/huggingface"

# Longer than the quickstart, in larger steps, with few enough prompts for half a dozen visits to each.
SETTINGS = [
    "arithmetic.train_prompts=128",
    "actor_rollout_ref.actor.ppo_mini_batch_size=16",
    "actor_rollout_ref.actor.optim.lr=2.0e-4",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=5",
    "erpo.schedule.rising.steps=47",
]
METHODS = {
    "grpo": ["method=grpo"],
    "grpo_hot": ["method=grpo_hot"],
    "dapo": ["method=dapo"],
    "ra": ["method=ra"],
    "erpo": ["method=erpo"],
    "erpo_without_ra": ["method=erpo", "erpo.ra.enable=false"],
    "erpo_band": ["method=erpo_band"],
}
CONSTANTS = {
    f"grpo_hot_t{temperature}": ["method=grpo_hot", f"erpo.schedule.constant.temperature={temperature}"]
    for temperature in (1.2, 1.4, 1.8)
}
STEPS_AND_CAPS = {
    f"erpo_dt{dt}_tmax{t_max}": ["method=erpo", f"erpo.schedule.linear.dt={dt}", f"erpo.schedule.linear.t_max={t_max}"]
    for dt, t_max in ((0.05, 1.2), (0.1, 1.5), (0.5, 2.0))
}
SMALLER_STEPS = {
    f"{method}_lr1e-4": [*settings, "actor_rollout_ref.actor.optim.lr=1.0e-4"]
    for method, settings in {
        "grpo": METHODS["grpo"],
        "grpo_hot_t1.4": CONSTANTS["grpo_hot_t1.4"],
        "grpo_hot": METHODS["grpo_hot"],
        "grpo_rising": ["method=grpo_rising"],
        "erpo": METHODS["erpo"],
    }.items()
}
ALL = {**METHODS, **CONSTANTS, **STEPS_AND_CAPS, **SMALLER_STEPS}
# Parts of the results; differences are to the first two methods of each.
PARTS = {
    "methods": list(METHODS),
    "constants": ["grpo", "grpo_hot", *CONSTANTS],
    "steps_and_caps": ["grpo", "erpo", *STEPS_AND_CAPS],
    "learning_rates": ["grpo", "grpo_lr1e-4", "grpo_hot", "grpo_hot_lr1e-4", "erpo", "erpo_lr1e-4"],
    # With the temperatures that the research loop found best at this learning rate.
    "smaller_steps": list(SMALLER_STEPS),
}


@dataclass(frozen=True)
class Training:
    """One run of the comparison: a method with a seed, in a folder."""

    method: str
    seed: int
    folder: Path

    def command(self) -> list[str]:
        """The command that starts the run, or goes on with it."""
        prepared = f"arithmetic.folder={self.folder.parent / 'arithmetic'}"
        return training_command(self.folder, self.seed, [*SETTINGS, *ALL[self.method], prepared])


def training_command(folder: Path, seed: int, settings: Sequence[str]) -> list[str]:
    """The command that starts a run of the comparison's length, or goes on with it.

    Args:
        folder: The run's folder.
        seed: Of sampling and of the order of prompts.
        settings: What is peculiar to the run.
    """
    return [
        *(sys.executable, "-m", "recipe.erpo.main_erpo", "experiment=cpu_arithmetic"),
        f"data.seed={seed}",
        f"actor_rollout_ref.rollout.seed={seed}",
        f"erpo.token_budget={TOKEN_BUDGET}",
        "trainer.total_training_steps=200",
        f"trainer.default_local_dir={folder}",
        # Checkpoints are evaluated afterwards, which takes a tenth of the time of verl's validation.
        "trainer.val_before_train=false",
        "trainer.test_freq=-1",
        "trainer.save_freq=8",
        "trainer.max_actor_ckpt_to_keep=null",
        "actor_rollout_ref.actor.checkpoint.save_contents=[model,optimizer,extra,hf_model]",
        *settings,
    ]


class _Run(Protocol):
    @property
    def folder(self) -> Path: ...

    def command(self) -> list[str]: ...


Run = TypeVar("Run", bound=_Run)


def train_all(runs: Sequence[Run], parallel: int, measure: Callable[[Run], None]) -> None:
    """Train some runs at a time, and measure each in this thread when it is done.

    Not in theirs: two threads that load a model each at the same time get wrong weights from transformers, often
    without an error.

    Args:
        runs: In the order in which they start; each command's output goes into the run's folder.
        parallel: Runs that are trained at a time.
        measure: Called with a run that is done. If it or a run fails, those that had not started do not start.

    Raises:
        RuntimeError: A run failed.
    """
    with ThreadPoolExecutor(parallel) as pool:
        futures = {pool.submit(_train, run): run for run in runs}
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc="runs", unit="run"):
                future.result()
                measure(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _train(run: _Run) -> None:
    run.folder.mkdir(parents=True, exist_ok=True)
    with (run.folder / "output.log").open("a") as log:
        code = subprocess.run(run.command(), stdout=log, stderr=subprocess.STDOUT).returncode
    if code:
        raise RuntimeError(f"the run failed; see {log.name}")


def evaluate(
    run_folder: Path, measure: Callable[[Qwen2ForCausalLM, PreTrainedTokenizerFast], dict[str, float]]
) -> pd.DataFrame:
    """Measure all checkpoints of a run: their steps, the tokens generated until then, and what `measure` returns."""
    torch.set_num_threads(1)
    groups = read_groups(run_folder)
    tokens = groups["lengths"].map(sum).groupby(groups["step"]).sum().cumsum()
    rows = []
    checkpoints = {path.name.removeprefix("global_step_"): path for path in run_folder.glob("global_step_*")}
    for step, checkpoint in sorted((int(step), path) for step, path in checkpoints.items() if step.isdecimal()):
        rows.append({"step": step, "tokens": tokens[step], **measure(*load_base(checkpoint / MODEL))})
    return pd.DataFrame(rows)


def _held_out_accuracy(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    test = make_pools(1, TEST_PROMPTS, 1).test
    scores = pd.Series(group_accuracies(model, tokenizer, test, SAMPLES, temperature=1.0, seed=0))
    return {"mean_at_8": scores.mean(), "pass_at_8": (scores > 0).mean()}


def run_all(out: Path, methods: Sequence[str], seeds: Sequence[int], parallel: int) -> None:
    """Run every method with every seed, seed by seed, so that what is done of it is balanced."""
    trainings = [Training(method, seed, out / f"{method}-seed{seed}") for seed in seeds for method in methods]
    unfinished = [training for training in trainings if not (training.folder / EVALUATIONS_FILE).exists()]

    def measure(training: Training) -> None:
        table = evaluate(training.folder, _held_out_accuracy)
        table.to_csv(training.folder / EVALUATIONS_FILE, index=False)

    train_all(unfinished, parallel, measure)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="comparison", description="Compare the methods through the real trainer.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="train and evaluate, or go on with it")
    run.add_argument("--out", type=Path, required=True, help="folder of the runs")
    run.add_argument("--part", choices=PARTS, default="methods", help="default: methods")
    run.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    run.add_argument("--parallel", type=int, default=1, help="runs at a time")
    results = commands.add_parser("results", help="write tables and figures")
    results.add_argument("runs", type=Path)
    results.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "run":
        run_all(options.out.absolute(), PARTS[options.part], options.seeds, options.parallel)
    else:
        write_results(options.runs, options.out, TOKEN_BUDGET, PARTS)


if __name__ == "__main__":
    main()
