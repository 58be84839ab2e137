# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Base models of the research loop: ``python -m benchmarks.research.bases``; what is there is not made again.

Six of each kind, from seeds of their own: the base model decides more than the method.
"""

import argparse
import os
import random
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.research.loop import strengthen
from benchmarks.research.model import ToyModel, exact
from benchmarks.research.toy import (
    END,
    PAD,
    PLAIN,
    PROMPT_LENGTH,
    REAL_TOKENS,
    TAIL,
    encode_prompts,
    encode_responses,
    warmup_tail_mass,
)
from erpo.tasks.arithmetic.task import Pools, Problem, draw_problem, make_pools

BASES = 6
TEST = 512
VALIDATION = 256
# Training prompts of a run are chosen from as many, which no other run has; the first serve the strong bases.
CANDIDATES = 768
SEEDS = 36
STRONG_PROMPTS = 1024

_WEIGHTS = {2: 6, 3: 5, 4: 4, 5: 3, 6: 2}
_BATCH = 64
_CHECK_EVERY = 50


def cache() -> Path:
    """Folder of the base models."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "erpo" / "research"


def pools() -> Pools:
    """Prompts of all runs and base models; none of them occurs in a warm-up."""
    return make_pools(STRONG_PROMPTS * BASES + SEEDS * CANDIDATES, BASES * TEST, VALIDATION)


def candidates(prompts: Pools, seed: int) -> list[Problem]:
    """From which the training prompts of a seed are chosen."""
    return prompts.train[STRONG_PROMPTS * BASES + seed * CANDIDATES :][:CANDIDATES]


def test_set(prompts: Pools, base: int) -> list[Problem]:
    """Held-out prompts of a base model."""
    return prompts.test[base * TEST :][:TEST]


def load(kind: str, base: int, folder: Path) -> ToyModel:
    """A base model of the kind plain, tail or strong."""
    model = ToyModel(PLAIN.vocabulary if kind == PLAIN.name else TAIL.vocabulary, seed=0)
    model.load_state_dict(torch.load(folder / f"{kind}{base}.pt"))
    return model


def _grow_tail(model: ToyModel, source: random.Random, prompts: Pools, base: int) -> ToyModel:
    """The model with a tail beside its tokens, learned by the head first, then by all weights."""
    grown = ToyModel(TAIL.vocabulary, seed=base)
    noise = torch.randn(TAIL.tail, model.head.in_features, generator=torch.Generator().manual_seed(base))
    state = model.state_dict()
    state["embedding.weight"] = torch.cat([state["embedding.weight"], grown.embedding.weight.detach()[REAL_TOKENS:]])
    beside = state["head.weight"][: END + 1].mean(0) + 0.02 * noise
    state["head.weight"] = torch.cat([state["head.weight"], beside])
    grown.load_state_dict(state)
    table = TAIL.tail_distributions()
    for name, parameter in grown.named_parameters():
        parameter.requires_grad_(name == "head.weight")
    _train(grown, source, prompts, steps=160, rate=5e-3, tail=table)
    grown.requires_grad_(True)
    _train(grown, source, prompts, steps=150, rate=2e-3, tail=table)
    return grown


def _train(
    model: ToyModel,
    source: random.Random,
    prompts: Pools,
    steps: int,
    rate: float,
    target: float = 2.0,
    tail: torch.Tensor | None = None,
) -> None:
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=rate,
        betas=(0.9, 0.98),
        weight_decay=0.01,
        fused=True,
    )
    excluded = prompts.prompts
    operations, weights = list(_WEIGHTS), list(_WEIGHTS.values())
    for step in (progress := tqdm(range(1, steps + 1), leave=False, mininterval=5)):
        optimizer.param_groups[0]["lr"] = rate * min(1.0, step / 30)
        problems: list[Problem] = []
        while len(problems) < _BATCH:
            problem = draw_problem(source, source.choices(operations, weights)[0])
            if problem.prompt not in excluded:
                problems.append(problem)
        problems.sort(key=lambda problem: problem.operations)
        # Two halves, the short and the long problems, or much of the batch would be padding.
        for half in (problems[: _BATCH // 2], problems[_BATCH // 2 :]):
            _supervised_loss(model, half, tail).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % _CHECK_EVERY == 0:
            right = exact(model, prompts.validation).right.mean()
            progress.set_postfix_str(f"right {right:.3f}")
            if right >= target:
                break


def _supervised_loss(model: ToyModel, problems: list[Problem], tail: torch.Tensor | None) -> torch.Tensor:
    """Summed over the tokens of worked answers, in units of a hundred."""
    prompts, responses = encode_prompts(problems), encode_responses(problems)
    responses = responses[:, : max(len(problem.response) for problem in problems) + 1]
    states = model.hidden(torch.cat([prompts, responses[:, :-1]], 1))[:, PROMPT_LENGTH - 1 :]
    mask = responses != PAD
    right = responses[mask]
    logits = model.head(states[mask])
    if tail is None:
        return torch.nn.functional.cross_entropy(logits, right, reduction="sum") / 100
    mass = warmup_tail_mass(responses)[mask]
    log_probs = torch.log_softmax(logits, -1)
    of_right = log_probs.gather(1, right[:, None])[:, 0]
    of_tail = (log_probs @ tail.t()).gather(1, right[:, None])[:, 0]
    return -((1 - mass) * of_right + mass * of_tail).sum() / 100


def build(kind: str, base: int, folder: Path, prompts: Pools) -> None:
    """Make a base model and save it, unless it is there.

    A plain one is trained on worked answers until their mean probability is 0.5; a tail one is a plain one, trained on
    to 0.65 and grown; a strong one is a tail one after reinforcement learning.
    """
    path = folder / f"{kind}{base}.pt"
    if path.exists():
        return
    source = random.Random(base)
    if kind == PLAIN.name:
        model = ToyModel(PLAIN.vocabulary, seed=base)
        _train(model, source, prompts, steps=6000, rate=2e-3, target=0.5)
    elif kind == TAIL.name:
        build(PLAIN.name, base, folder, prompts)
        model = load(PLAIN.name, base, folder)
        _train(model, source, prompts, steps=6000, rate=2e-3, target=0.65)
        model = _grow_tail(model, source, prompts, base)
    else:
        build(TAIL.name, base, folder, prompts)
        model = load(TAIL.name, base, folder)
        strengthen(model, prompts.train[base * STRONG_PROMPTS :][:STRONG_PROMPTS], seed=base)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path.with_suffix(".unfinished"))
    path.with_suffix(".unfinished").rename(path)


KINDS = (PLAIN.name, TAIL.name, "strong")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="bases", description="Make the base models of the research loop.")
    parser.add_argument("--folder", type=Path, default=cache())
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--bases", nargs="+", type=int, choices=range(BASES), default=range(BASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    prompts = pools()
    temperatures = (1.0, 1.1, 1.2, 1.3, 1.4, 1.6)
    print("base", "greedy", "tail-free", *(f"T={value}" for value in temperatures), sep="\t", flush=True)
    for kind in options.kinds:
        for base in options.bases:
            build(kind, base, options.folder, prompts)
            found = exact(load(kind, base, options.folder), test_set(prompts, base), temperatures)
            values = [found.greedy.mean(), found.tail_free.mean(), *np.atleast_1d(found.right.mean(0))]
            print(f"{kind}{base}", *(f"{value:.3f}" for value in values), sep="\t", flush=True)


if __name__ == "__main__":
    main()
