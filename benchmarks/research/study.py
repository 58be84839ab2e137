# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Many runs of the research loop: ``python -m benchmarks.research.study NAME --out FILE.csv [--workers N]``.

A study that was stopped goes on where it was. Seeds take turns at six base models with a test set each, and every seed
has training prompts of its own, so that the luck of all of them is in the spread of the paired differences.
"""

import argparse
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from benchmarks.research import bases
from benchmarks.research.groups import LoopConfig
from benchmarks.research.loop import run
from benchmarks.research.model import ToyModel, exact
from benchmarks.research.policies import Arm
from erpo.tasks.arithmetic.task import Problem
from erpo.tracker import Outcome

FINAL_SEEDS = range(24)
TUNING_SEEDS = range(24, bases.SEEDS)


@dataclass(frozen=True)
class Regime:
    """Where methods are compared.

    Attributes:
        name: Name in the tables.
        base: Kind of the base models.
        pool: Training prompts of a run.
        solved: Share of the pool that the base model mostly solves at T = 1, the rest being hard; None draws at random.
        config: What all arms share.
    """

    name: str
    base: str
    pool: int
    solved: float | None
    config: LoopConfig

    def train(self, prompts: Sequence[Problem], model: ToyModel) -> list[Problem]:
        """The training pool out of the candidates of a seed."""
        if self.solved is None:
            return list(prompts[: self.pool])
        right = exact(model, prompts).right[:, 0]
        easy = round(self.solved * self.pool)
        of_easy = np.flatnonzero(right**self.config.n >= _SOLVED)[:easy]
        hard = self.pool - easy
        possible = np.flatnonzero((right >= _LEAST) & (right**self.config.n < _SOLVED))
        # A strong model has few hard prompts: then the least probable ones, whatever their accuracy.
        limit = max(_HARD, *np.sort(right[possible])[:hard], _LEAST)
        of_hard = possible[right[possible] <= limit][:hard]
        if len(of_easy) + len(of_hard) < self.pool:
            raise ValueError(f"only {len(of_easy)} solved and {len(of_hard)} hard prompts in {len(prompts)}")
        return [prompts[row] for row in (*of_easy, *of_hard)]


# Least chance of an all-correct group of a solved prompt; accuracies of a hard one, if there are enough.
_SOLVED = 0.6
_LEAST, _HARD = 0.02, 0.5
REGIMES = {
    regime.name: regime
    for regime in [
        # Six visits a prompt.
        Regime("tail", "tail", pool=128, solved=None, config=LoopConfig()),
        # Sixteen visits.
        Regime("visits", "tail", pool=64, solved=None, config=LoopConfig(budget=160_000)),
        # Sixteen visits on the task of the CPU experiment, where no token breaks an answer.
        Regime("plain visits", "plain", pool=48, solved=None, config=LoopConfig()),
        # As the paper's 32B model: three of four prompts are solved before the run begins.
        Regime("solved", "strong", pool=128, solved=0.75, config=LoopConfig()),
        # Broken by chance as by an untrained tail: no training makes heat harmless.
        Regime("unlearnable", "plain", pool=128, solved=None, config=LoopConfig(unlearnable=True)),
    ]
}


def constant(temperature: float, min_p: float = 0.0) -> Arm:
    """One temperature for every prompt."""
    cut = f", min-p {min_p}" if min_p else ""
    return Arm(f"constant {temperature}{cut}", heat=(temperature, temperature), min_p=min_p)


def rise(first: float, last: float) -> Arm:
    """One temperature for every prompt, that rises with the tokens spent."""
    return Arm(f"rise {first} to {last}", heat=(first, last))


GRPO = Arm("grpo")
DAPO = Arm("dapo", drop=(Outcome.ALL_CORRECT, Outcome.ALL_WRONG))
AIMS = [Arm(f"oracle T for {aim}", oracle_accuracy=aim) for aim in (0.5, 0.7)]
# Where heat breaks answers, and where no training makes that better.
LEARNABLE = [*(constant(value) for value in (1.1, 1.2, 1.3)), rise(1.0, 1.4), rise(1.1, 1.6)]
NOT_LEARNABLE = [*(constant(value) for value in (1.1, 1.2)), rise(1.0, 1.3)]
# Hotter, because the tail cannot be met.
TAIL_CUT = [constant(value, min_p=share) for value, share in ((1.2, 0.02), (1.4, 0.02), (1.6, 0.05))]


def oracles(heat: Arm) -> list[Arm]:
    """The upper bounds: of temperature; of selection and of group sizes at the best constant; of all three."""
    return [
        AIMS[0],
        replace(heat, name="oracle selection", oracle_selection=True),
        replace(heat, name="oracle sizes", oracle_sizes=True),
        Arm("oracle of all three", oracle_accuracy=0.5, oracle_selection=True, oracle_sizes=True),
    ]


def linear(dt: float, t_max: float) -> Arm:
    """The temperatures of ERPO, without RA and without dropped groups."""
    return Arm(
        f"linear {dt} to {t_max}", schedule={"name": "linear", "linear": {"t_base": 1, "dt": dt, "t_max": t_max}}
    )


def fitted(aim: float, lowest: float | None = None) -> Arm:
    """A temperature for each prompt by a model of all visits, whose slope is fitted as they come."""
    if lowest is None:
        return Arm(f"fitted slope for {aim}", predicted_accuracy=aim)
    name = f"fitted slope for {aim}, from {lowest}"
    return Arm(name, predicted_accuracy=aim, bounds=(lowest, Arm.bounds[1]))


def shipped(target: float, t_max: float) -> Arm:
    """The same by the product's schedule, which keeps less of the past and knows no length."""
    settings = {"target": target, "t_base": 1.0, "t_max": t_max}
    return Arm(f"schedule fitted for {target} to {t_max}", schedule={"name": "fitted", "fitted": settings})


def with_ra(arm: Arm) -> Arm:
    """The same with RA's advantage for all-correct groups."""
    return replace(arm, name=f"{arm.name}, RA", ra=True)


def slower(arm: Arm) -> Arm:
    """The same at half the learning rate."""
    return replace(arm, name=f"{arm.name} at 1e-4", learning_rate=1e-4)


SHIPPED = [DAPO, linear(0.05, 1.2), linear(0.1, 1.3), linear(0.2, 1.5)]
# Chosen on "tuning": the best constant and the best rise of each regime, over the run.
BEST = {
    "tail": (constant(1.3), rise(1.1, 1.6)),
    "solved": (constant(1.2), rise(1.1, 1.6)),
    "visits": (constant(1.3), rise(1.0, 1.4)),
    "unlearnable": (constant(1.2), rise(1.0, 1.3)),
}
# What a rule with history has to beat: the best ones so far (in "visits" after "confirmation"), and the best rises of
# "slope_tuning", which start hotter.
TO_BEAT = {
    "tail": [constant(1.3), rise(1.1, 1.6), rise(1.2, 1.5)],
    "visits": [constant(1.3), rise(1.1, 1.6), rise(1.2, 1.6)],
    "solved": [constant(1.2), rise(1.1, 1.6)],
}
HOTTER = {"tail": [constant(1.4)], "visits": [constant(1.5)], "solved": [constant(1.3), rise(1.4, 1.7)]}
SLOPES = [*map(fitted, (0.3, 0.4, 0.5, 0.6)), *(fitted(aim, lowest=1.0) for aim in (0.4, 0.5))]


@dataclass(frozen=True)
class Case:
    """One run."""

    regime: str
    arm: Arm
    seed: int

    @property
    def base(self) -> int:
        """Number of the base model and its test set."""
        return self.seed % bases.BASES


def _cases(regimes: Iterable[str], arms: Sequence[Arm], seeds: Iterable[int]) -> list[Case]:
    return [Case(regime, arm, seed) for seed in seeds for regime in regimes for arm in arms]


STUDIES: dict[str, list[Case]] = {
    # A seed on each of two or three base models.
    "tuning": [
        *_cases(["tail"], [*LEARNABLE, *AIMS], TUNING_SEEDS[:3]),
        *_cases(["solved", "visits"], [*LEARNABLE, *AIMS], TUNING_SEEDS[:2]),
        *_cases(["unlearnable"], [*NOT_LEARNABLE, AIMS[0]], TUNING_SEEDS[:3]),
        *_cases(["tail"], [GRPO, *TAIL_CUT], TUNING_SEEDS[:3]),
    ],
    # All arms of a seed before the next seed, so that a study that is cut off is paired.
    "headroom": [
        case
        for seed in FINAL_SEEDS
        for regime, (heat, rising) in BEST.items()
        for case in _cases([regime], [GRPO, heat, rising, *oracles(heat)], [seed])
    ],
    # After nine seeds of "rules" the linear rule was ahead in "visits". 1.3 was the hottest constant that was tried.
    "confirmation_tuning": _cases(
        ["visits"],
        [
            *(constant(value) for value in (1.2, 1.3, 1.4, 1.5, 1.6)),
            *(rise(1.0, last) for last in (1.4, 1.6, 1.8)),
            rise(1.1, 1.6),
        ],
        TUNING_SEEDS[2:6],
    ),
    "confirmation": _cases(
        ["visits"], [GRPO, constant(1.3), constant(1.5), rise(1.1, 1.6), linear(0.2, 1.5)], FINAL_SEEDS[10:]
    ),
    # The arms of the confirmation through the real trainer, and its learning rate.
    "trainer_tuning": _cases(
        ["plain visits"],
        [
            GRPO,
            *(constant(value) for value in (1.2, 1.4, 1.6, 1.8)),
            *(rise(1.0, last) for last in (1.6, 2.0)),
            *(rise(1.2, last) for last in (1.8, 2.2)),
            *(linear(*pair) for pair in ((0.2, 1.5), (0.2, 2.0), (0.5, 2.0))),
            # Four of them showed that half the learning rate is better for all, so the others followed.
            *map(slower, (GRPO, constant(1.6), rise(1.2, 1.8), linear(0.2, 2.0))),
            *map(slower, (constant(1.4), constant(1.8), rise(1.0, 2.0), rise(1.2, 2.2))),
            *map(slower, (linear(0.2, 1.5), linear(0.5, 2.0))),
        ],
        TUNING_SEEDS[:6],
    ),
    # A rule with history whose constants are fitted as the run goes on.
    "slope_tuning": [
        case
        for seed in TUNING_SEEDS[:4]
        for regime, controls in TO_BEAT.items()
        for case in _cases([regime], [*controls, *HOTTER[regime], *SLOPES], [seed])
    ],
    "slope": [
        case
        for seed in FINAL_SEEDS
        for regime, controls in TO_BEAT.items()
        for case in _cases([regime], [GRPO, *controls, fitted(0.4, lowest=1.0)], [seed])
    ],
    # The same as a schedule of the product, and its aim for the confirmation through the real trainer.
    "fitted_tuning": [
        *_cases(
            ["plain visits"],
            [*map(slower, (constant(1.6), rise(1.0, 2.0), *(shipped(aim, 2.0) for aim in (0.3, 0.4, 0.5, 0.6))))],
            TUNING_SEEDS[:6],
        ),
        *_cases(TO_BEAT, [shipped(0.4, 1.8)], TUNING_SEEDS[:4]),
    ],
    "fitted": [
        case
        for seed in FINAL_SEEDS
        for regime in TO_BEAT
        for case in _cases([regime], [shipped(0.4, 1.8), with_ra(shipped(0.4, 1.8))], [seed])
    ],
    # Added when the others had run: more for it to beat where it was ahead of all that the plan named, and the regime
    # where heat does no good.
    "fitted_controls": [
        *_cases(["solved"], [DAPO, constant(1.3), rise(1.0, 1.4), rise(1.2, 1.5)], FINAL_SEEDS),
        *_cases(["unlearnable"], [GRPO, constant(1.2), shipped(0.4, 1.8)], FINAL_SEEDS[:12]),
    ],
    "rules": [
        case
        for seed in FINAL_SEEDS
        for regime, more in (("tail", TAIL_CUT[2:]), ("solved", []), ("visits", []))
        for case in _cases([regime], [*SHIPPED, *more], [seed])
    ],
}

_prompts = cache(bases.pools)


def run_case(case: Case, folder: Path) -> list[dict[str, Any]]:
    """Train a base model in `folder`; one row for each evaluation."""
    torch.set_num_threads(1)
    prompts, regime = _prompts(), REGIMES[case.regime]
    model = bases.load(regime.base, case.base, folder)
    train = regime.train(bases.candidates(prompts, case.seed), model)
    rows = run(case.arm, model, train, bases.test_set(prompts, case.base), regime.config, case.seed)
    return [{"regime": case.regime, "arm": case.arm.name, "seed": case.seed, **row} for row in rows]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="study", description="Run a study of the research loop, or go on with it.")
    parser.add_argument("study", choices=list(STUDIES))
    parser.add_argument("--out", type=Path, required=True, help="CSV file; the runs in it are not run again")
    parser.add_argument("--bases", type=Path, default=bases.cache(), help="folder of base models")
    parser.add_argument("--regimes", nargs="+", choices=list(REGIMES), default=list(REGIMES))
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    options = parser.parse_args()
    done: set[tuple[Any, ...]] = set()
    if options.out.exists():
        done = set(pd.read_csv(options.out)[["regime", "arm", "seed"]].itertuples(index=False, name=None))
    cases = [case for case in STUDIES[options.study] if case.regime in options.regimes]
    cases = [case for case in cases if (case.regime, case.arm.name, case.seed) not in done]
    torch.set_num_threads(1)
    for kind in sorted({REGIMES[case.regime].base for case in cases}):
        for base in sorted({case.base for case in cases}):
            bases.build(kind, base, options.bases, _prompts())
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(run_case, case, options.bases) for case in cases]
        try:
            for future in tqdm(as_completed(futures), total=len(futures), desc=options.study, unit="run"):
                table = pd.DataFrame(future.result()).round(5)
                table.to_csv(options.out, mode="a", header=not options.out.exists(), index=False)
        except BaseException:
            # Or the others would run to their end, and be lost.
            pool.shutdown(wait=False, cancel_futures=True)
            raise


if __name__ == "__main__":
    main()
