# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Through the real trainer: what the research loop says of a method with many visits.

``python -m benchmarks.confirmation --runs DIR --out FILE.csv`` goes on where it was stopped. Seeds take turns at the
base models, and every seed has training prompts of its own. The rows are those of the research loop, so that
``python -m benchmarks.research.summary FILE.csv`` prints their tables.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from benchmarks.comparison import MODEL, TOKEN_BUDGET, evaluate, train_all, training_command
from benchmarks.comparison_results import QUARTERS, per_quarter
from erpo.runs import read_groups
from erpo.tasks.arithmetic.base import load_base
from erpo.tasks.arithmetic.prepare import DATA_SOURCE, PrepareConfig, prepare
from erpo.tasks.arithmetic.sampling import group_accuracies
from erpo.tasks.arithmetic.task import RESERVED_TEST_PROMPTS, Problem, make_pools
from erpo.tasks.arithmetic.warmup import WarmupConfig, make_batch
from erpo.tasks.artefact import MODEL_FOLDER, TRAIN_FILE, write_data
from erpo.tasks.supervised import IGNORED

REGIME = "trainer"
# 47 steps of 16 prompts: sixteen visits to each.
PROMPTS = 48
SEEDS = range(6)
# None is the base model in the package; a number is the seed of a warm-up.
BASES = (None, 1)
SAMPLES = 8
SETTINGS = [
    "actor_rollout_ref.actor.ppo_mini_batch_size=16",
    "actor_rollout_ref.actor.optim.lr=1.0e-4",
    "actor_rollout_ref.actor.optim.lr_warmup_steps=5",
    "trainer.save_freq=4",
]
# The best of each kind on the study "trainer_tuning" of the research loop, at the learning rate above.
ARMS = {
    "grpo": ["method=grpo"],
    "constant 1.6": ["method=grpo_hot", "erpo.schedule.constant.temperature=1.6"],
    "rise 1.0 to 2.0": [
        "method=grpo_rising",
        "erpo.schedule.rising.t_first=1.0",
        "erpo.schedule.rising.t_max=2.0",
        "erpo.schedule.rising.steps=47",
    ],
    # Its aim by "fitted_tuning".
    "fitted for 0.5 to 2.0": [
        "method=grpo_fitted",
        "erpo.schedule.fitted.target=0.5",
        "erpo.schedule.fitted.t_max=2.0",
    ],
    "erpo 0.5 to 2.0": ["method=erpo", "erpo.schedule.linear.dt=0.5", "erpo.schedule.linear.t_max=2.0"],
}


@torch.inference_mode()
def scores(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: Sequence[Problem]
) -> dict[str, float]:
    """Exact scores at T = 1: nothing is sampled.

    Returns:
        ``accuracy``, the mean probability of the worked answer and its end (mean@8 is higher: a wrong value on the way
        may end in the right answer); ``greedy``, how often greedy decoding writes it; and ``pass_at_8``, the chance of
        one in eight.
    """
    tokens, labels = make_batch(tokenizer, problems)
    log_probs = model(input_ids=tokens[:, :-1], use_cache=False).logits.log_softmax(-1)
    targets = labels[:, 1:]
    answered = targets != IGNORED
    of_targets = log_probs.gather(-1, targets.clamp(min=0)[..., None])[..., 0]
    right = torch.where(answered, of_targets, 0).sum(-1).exp()
    greedy = ((log_probs.argmax(-1) == targets) | ~answered).all(-1)
    return {
        "accuracy": float(right.mean()),
        "greedy": float(greedy.double().mean()),
        "pass_at_8": float((1 - (1 - right) ** SAMPLES).mean()),
    }


@dataclass(frozen=True)
class Training:
    """One run: an arm with a seed, in a folder of its own below `runs`."""

    arm: str
    seed: int
    runs: Path

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.runs / f"{self.arm.replace(' ', '_')}-seed{self.seed}"

    @property
    def base(self) -> int | None:
        """The base model."""
        return BASES[self.seed % len(BASES)]

    @property
    def prepared(self) -> Path:
        """Folder of the base model, which all runs of it share."""
        return self.runs / f"base-{'package' if self.base is None else self.base}"

    @property
    def prompts(self) -> Path:
        """Folder of the training prompts of the seed, which all arms share."""
        return self.runs / f"prompts-seed{self.seed}"

    def write_prompts(self) -> None:
        """Write the training prompts of the seed."""
        problems = make_pools((self.seed + 1) * PROMPTS, 1, 1).train[self.seed * PROMPTS :]
        self.prompts.mkdir(parents=True, exist_ok=True)
        rows: list[tuple[str, str, dict[str, Any]]] = [(problem.prompt, problem.answer, {}) for problem in problems]
        write_data(self.prompts, DATA_SOURCE, rows, rows)

    def command(self) -> list[str]:
        """The command that starts the run, or goes on with it."""
        own = [
            f"arithmetic.folder={self.prepared}",
            f"arithmetic.base_seed={'null' if self.base is None else self.base}",
            f"data.train_files={self.prompts / TRAIN_FILE}",
        ]
        return training_command(self.folder, self.seed, [*SETTINGS, *ARMS[self.arm], *own])

    def rows(self) -> pd.DataFrame:
        """Scores of the base model, and at every quarter of the budget with what was generated since the one before."""
        test = make_pools(1, RESERVED_TEST_PROMPTS, 1).test
        checkpoints = evaluate(self.folder, lambda model, tokenizer: scores(model, tokenizer, test))
        before = scores(*load_base(self.prepared / MODEL_FOLDER), test)
        checkpoints = pd.concat([pd.DataFrame([{"step": 0, "tokens": 0, **before}]), checkpoints])
        at = np.arange(QUARTERS + 1) * TOKEN_BUDGET / QUARTERS
        table = pd.DataFrame(
            {name: np.interp(at, checkpoints["tokens"], checkpoints[name]) for name in checkpoints.columns}
        )
        at_8 = group_accuracies(*load_base(self._last_checkpoint()), test, SAMPLES, temperature=1.0, seed=0)
        table.loc[QUARTERS, "mean_at_8"] = np.mean(at_8)
        generated = per_quarter(read_groups(self.folder), TOKEN_BUDGET).set_index("quarter")
        shares = pd.DataFrame({"groups": generated["groups"], "temperature": generated["temperature_mean"]})
        for kind in ("all_correct", "mixed", "all_wrong"):
            shares[kind] = generated[kind] / generated["groups"]
        table = table.rename(columns={"step": "steps"}).join(shares).rename_axis("point").reset_index()
        identity = {"regime": REGIME, "arm": self.arm, "seed": self.seed}
        return table.assign(**identity).round(5)

    def _last_checkpoint(self) -> Path:
        step = (self.folder / "latest_checkpointed_iteration.txt").read_text()
        return self.folder / f"global_step_{step}" / MODEL

    def prepare(self) -> None:
        """Make the base model, unless it is there, and write the training prompts of the seed."""
        prepare(self.prepared, PrepareConfig(warmup=None if self.base is None else WarmupConfig(seed=self.base)))
        self.write_prompts()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="confirmation", description="Confirm a method through the real trainer.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--out", type=Path, required=True, help="CSV file; the runs in it are not run again")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time")
    options = parser.parse_args()
    done = set()
    if options.out.exists():
        done = set(pd.read_csv(options.out)[["arm", "seed"]].itertuples(index=False, name=None))
    # All arms of a seed before the next seed, so that what is cut off is paired.
    trainings = [Training(arm, seed, options.runs.absolute()) for seed in SEEDS for arm in ARMS]
    trainings = [training for training in trainings if (training.arm, training.seed) not in done]
    for training in trainings:
        training.prepare()

    def measure(training: Training) -> None:
        training.rows().to_csv(options.out, mode="a", header=not options.out.exists(), index=False)

    train_all(trainings, options.parallel, measure)


if __name__ == "__main__":
    main()
