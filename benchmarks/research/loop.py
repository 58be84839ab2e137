# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One run of reinforcement learning on a toy in plain PyTorch, with the product's tracker, task and RA.

A search tool: a run takes 20 seconds of one core and needs no start. What it shows is a hint for the real trainer.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.research.groups import Group, LoopConfig
from benchmarks.research.model import Exact, ToyModel, cut_tail, exact, generate
from benchmarks.research.policies import Arm, Policy
from benchmarks.research.toy import encode_prompts, score, unbroken_probability
from erpo.tasks.arithmetic.task import Problem
from erpo.tracker import Outcome, classify

_PARTS = 2
_THIRDS = ("hard", "middle", "easy")


class _Stream:
    """Rows of the training pool in shuffled epochs; a policy may pass a prompt over."""

    def __init__(self, prompts: int, policy: Policy, seed: int) -> None:
        self._rows = self._epochs(prompts, random.Random(seed))
        self._policy, self._choice = policy, random.Random(seed + 500)

    def take(self, count: int) -> list[int]:
        accepted: list[int] = []
        while len(accepted) < count:
            row = next(self._rows)
            if self._policy.accepts(row, self._choice):
                accepted.append(row)
        return accepted

    @staticmethod
    def _epochs(prompts: int, generator: random.Random) -> Iterator[int]:
        rows = list(range(prompts))
        while True:
            generator.shuffle(rows)
            yield from rows


def run(
    arm: Arm, model: ToyModel, train: Sequence[Problem], test: Sequence[Problem], config: LoopConfig, seed: int
) -> list[dict[str, Any]]:
    """Trains the model in place until the budget is spent.

    Args:
        arm: The method.
        model: A base model.
        train: Training prompts.
        test: Held-out prompts.
        config: What all arms share.
        seed: Of sampling and of the order of prompts.

    Returns:
        A row for each evaluation, with what was generated since the one before.
    """
    generator = torch.Generator().manual_seed(seed)
    policy = Policy(arm, model, train, config)
    stream = _Stream(len(train), policy, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=arm.learning_rate, weight_decay=0.0, fused=True)
    encoded = encode_prompts(train)
    before = exact(model, test)
    train_thirds, test_thirds = _thirds(exact(model, train)), _thirds(before)
    rows = [_scores(before, test, test_thirds, config)]
    since: list[Group] = []
    tokens = step = updates = 0
    while tokens < config.budget:
        step += 1
        batch: list[Group] = []
        missing = config.prompts
        while missing and tokens < config.budget:
            prompts = np.array(stream.take(missing))
            temperatures = policy.temperatures(prompts, tokens / config.budget)
            sizes = policy.sizes(prompts, temperatures)
            groups = _sampled(model, encoded, train, prompts, temperatures, sizes, generator, arm.min_p, config)
            policy.observe(groups, step)
            tokens += sum(int(group.lengths.sum()) for group in groups)
            since += groups
            kept = [group for group in groups if group.outcome not in arm.drop]
            batch += kept
            missing -= len(kept)
        policy.finish_step(step)
        updates += _updated(model, optimizer, encoded, batch, arm, min(1, (updates + 1) / config.ramp))
        while len(rows) <= config.evaluations and tokens >= config.budget * len(rows) / config.evaluations:
            found = _scores(exact(model, test), test, test_thirds, config)
            rows.append({"tokens": tokens, "steps": step, **found, **(_shares(since, train_thirds) if since else {})})
            since = []
    return [{"point": point, "tokens": 0, "steps": 0, **row} for point, row in enumerate(rows)]


def _thirds(found: Exact) -> NDArray[np.int64]:
    """0, 1 or 2 for the hard, middle and easy third of the problems by the model's own probability, (P,)."""
    right = found.right[:, 0]
    return np.searchsorted(np.quantile(right, [1 / 3, 2 / 3]), right)


def _scores(found: Exact, test: Sequence[Problem], thirds: NDArray[np.int64], config: LoopConfig) -> dict[str, float]:
    right = found.right[:, 0]
    if config.unlearnable:
        lengths = np.array([len(problem.response) + 1 for problem in test])
        right = right * unbroken_probability(np.ones(len(test)), lengths)
    return {
        "accuracy": float(right.mean()),
        "tail_free": float(found.tail_free.mean()),
        "greedy": float(found.greedy.mean()),
        "pass_at_8": float((1 - (1 - right) ** 8).mean()),
        "tail_mass": float(found.tail_mass.mean()),
        **{f"accuracy_{name}": float(right[thirds == third].mean()) for third, name in enumerate(_THIRDS)},
    }


def _shares(groups: Sequence[Group], thirds: NDArray[np.int64]) -> dict[str, float]:
    kinds = {"all_correct": Outcome.ALL_CORRECT, "mixed": Outcome.MIXED, "all_wrong": Outcome.ALL_WRONG}
    outcomes = np.array([group.outcome for group in groups])
    of_third = thirds[[group.prompt for group in groups]]
    heat = np.array([group.temperature for group in groups])
    wrong = [group.broken[group.accuracies == 0] for group in groups if group.outcome is Outcome.MIXED]
    shares = {"groups": len(groups), "temperature": float(heat.mean())}
    for name, kind in kinds.items():
        shares[name] = float((outcomes == kind).mean())
        shares |= {f"{name}_{third}": _mean((outcomes == kind)[of_third == at]) for at, third in enumerate(_THIRDS)}
    shares |= {f"temperature_{third}": _mean(heat[of_third == at]) for at, third in enumerate(_THIRDS)}
    return shares | {"broken_by_tail": _mean(np.concatenate(wrong)) if wrong else float("nan")}


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _sampled(
    model: ToyModel,
    encoded: torch.Tensor,
    train: Sequence[Problem],
    prompts: NDArray[np.int64],
    temperatures: NDArray[np.float64],
    sizes: NDArray[np.int64],
    generator: torch.Generator,
    min_p: float,
    config: LoopConfig,
) -> list[Group]:
    responses, lengths = generate(model, encoded[prompts], sizes, temperatures, generator, min_p)
    accuracies, broken = score(responses, lengths, [train[prompt] for prompt in np.repeat(prompts, sizes).tolist()])
    if config.unlearnable:
        draws = torch.rand(len(responses), generator=generator).numpy()
        broken = draws > unbroken_probability(np.repeat(temperatures, sizes), lengths.numpy())
        accuracies = np.where(broken, 0.0, accuracies)
    ends = np.cumsum(sizes)
    groups = []
    for prompt, temperature, start, end in zip(prompts, temperatures, ends - sizes, ends, strict=True):
        rows = slice(int(start), int(end))
        outcome = classify(list(accuracies[rows]), len(accuracies[rows]))
        groups.append(
            Group(
                int(prompt), float(temperature), responses[rows], lengths[rows], accuracies[rows], broken[rows], outcome
            )
        )
    return groups


def _updated(
    model: ToyModel,
    optimizer: torch.optim.Optimizer,
    encoded: torch.Tensor,
    batch: Sequence[Group],
    arm: Arm,
    ramp: float,
) -> int:
    """One on-policy step, token-mean: the ratio to the sampling policy is 1, its gradient that of the log-prob.

    Returns:
        1, or 0 where no group has an advantage.
    """
    signal = [(group, advantages) for group in batch if (advantages := group.advantages(arm.ra)) is not None]
    if not signal:
        return 0
    tokens = sum(int(group.lengths.sum()) for group in batch)
    responses = torch.cat([group.responses for group, _ in signal])
    lengths = torch.cat([group.lengths for group, _ in signal])
    weights = torch.as_tensor(np.concatenate([advantages for _, advantages in signal]), dtype=torch.float32)
    sizes = torch.tensor([len(group.lengths) for group, _ in signal])
    heat = torch.tensor([group.temperature for group, _ in signal]).repeat_interleave(sizes)
    prompts = torch.tensor([group.prompt for group, _ in signal]).repeat_interleave(sizes)
    # Short responses together: a part is as wide as its longest.
    for rows in torch.argsort(lengths).chunk(_PARTS):
        width = int(lengths[rows].max())
        part = responses[rows, :width]
        of_part, group = torch.unique(prompts[rows], return_inverse=True)
        mask = torch.arange(width) < lengths[rows][:, None]
        states = model.response_states(encoded[of_part], group, part)[mask]
        row = torch.arange(len(rows))[:, None].expand_as(mask)[mask]
        sampled = part[mask]
        logits = cut_tail(model.head(states) / heat[rows][row][:, None], arm.min_p, sampled)
        log_probs = logits.gather(1, sampled[:, None])[:, 0] - torch.logsumexp(logits, -1)
        (-(log_probs * weights[rows][row]).sum() / tokens).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.param_groups[0]["lr"] = arm.learning_rate * ramp
    optimizer.step()
    optimizer.zero_grad()
    return 1


def strengthen(model: ToyModel, train: Sequence[Problem], seed: int) -> None:
    """GRPO at T = 1 on prompts of its own, in place: what makes a base model whose pool is mostly solved."""
    run(Arm("grpo"), model, train, train[:64], LoopConfig(budget=600_000, evaluations=1), seed)
