# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One run of reinforcement learning on the arithmetic task in plain PyTorch: the product's tracker, task, model and RA.

A search tool: a step takes about a seventh of the real trainer's time, and a run needs no start. What it shows is a
hint for a run of the real trainer, not evidence.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from erpo.tasks.arithmetic.reward import compute_score
from erpo.tasks.arithmetic.sampling import group_accuracies
from erpo.tasks.arithmetic.task import MAX_RESPONSE_TOKENS, Problem
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, classify, keys_array, prompt_key
from erpo.trainer.advantage import ra_advantages
from erpo.trainer.config import RAConfig

_EPSILON = 1e-6


@dataclass(frozen=True)
class Arm:
    """A method.

    Attributes:
        name: Name in the tables.
        schedule: Settings of the tracker, as in the section ``erpo.schedule`` of a run.
        ra: Whether all-correct groups get RA's advantage.
        drop: Kinds of groups that are dropped and refilled.
        learning_rate: Of AdamW.
        rise: First and last temperature of a schedule that is linear in the tokens spent, the same for every prompt;
            it takes the place of the tracker's.
    """

    name: str
    schedule: dict[str, Any] = field(default_factory=lambda: {"name": "none"})
    ra: bool = False
    drop: tuple[Outcome, ...] = ()
    learning_rate: float = 2e-4
    rise: tuple[float, float] | None = None


@dataclass(frozen=True)
class LoopConfig:
    """What all arms share.

    Attributes:
        prompts: Prompts in a training step.
        n: Responses to a prompt.
        budget: Response tokens that are generated, dropped groups included.
        ramp: Steps over which the learning rate rises.
        evaluations: Evaluations on the test prompts, evenly over the budget, beside the one before training.
        test_samples: Responses to each test prompt.
        max_tokens: A response is cut after as many tokens.
    """

    prompts: int = 16
    n: int = 8
    budget: int = 250_000
    ramp: int = 5
    evaluations: int = 4
    test_samples: int = 8
    max_tokens: int = MAX_RESPONSE_TOKENS


@dataclass(frozen=True, eq=False)
class Rollout:
    """Responses to the prompts of one batch; R rows, n consecutive rows a prompt.

    Attributes:
        tokens: Left-padded prompts and their responses, (R, L).
        attended: Whether a position is part of the prompt or the response, (R, L).
        is_response: Whether a position is part of the response, its end included, (R, L).
        temperatures: Sampling temperatures, (R,).
        accuracies: 0 or 1, (R,).
    """

    tokens: torch.Tensor
    attended: torch.Tensor
    is_response: torch.Tensor
    temperatures: torch.Tensor
    accuracies: np.ndarray

    @property
    def positions(self) -> torch.Tensor:
        """Position ids, (R, L)."""
        return (self.attended.long().cumsum(1) - 1).clamp(min=0)


@torch.no_grad()
def roll_out(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    problems: Sequence[Problem],
    n: int,
    temperatures: np.ndarray,
    generator: torch.Generator,
    max_tokens: int = MAX_RESPONSE_TOKENS,
) -> Rollout:
    """Samples n responses to each problem at the temperature of its prompt, shape (len(problems),)."""
    prompts = [problem.prompt for problem in problems for _ in range(n)]
    encoded = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    tokens, attended = encoded["input_ids"], encoded["attention_mask"].bool()
    row_temperatures = torch.as_tensor(np.repeat(temperatures, n), dtype=torch.float32)
    prompt_length, eos = tokens.shape[1], tokenizer.eos_token_id
    cache, new = None, tokens
    finished = torch.zeros(len(tokens), dtype=torch.bool)
    for _ in range(max_tokens):
        positions = (attended.long().cumsum(1) - 1).clamp(min=0)[:, -new.shape[1] :]
        output = model(
            input_ids=new,
            attention_mask=attended,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = output.past_key_values
        probabilities = torch.softmax(output.logits[:, -1] / row_temperatures[:, None], dim=-1)
        new = torch.multinomial(probabilities, 1, generator=generator)
        new[finished] = tokenizer.pad_token_id
        tokens = torch.cat([tokens, new], dim=1)
        attended = torch.cat([attended, ~finished[:, None]], dim=1)
        finished |= new[:, 0] == eos
        if finished.all():
            break
    is_response = attended.clone()
    is_response[:, :prompt_length] = False
    texts = tokenizer.batch_decode(tokens[:, prompt_length:], skip_special_tokens=True)
    answers = [problem.answer for problem in problems for _ in range(n)]
    accuracies = [
        compute_score("", text, answer, max_characters=max_tokens - 1)["acc"]
        for text, answer in zip(texts, answers, strict=True)
    ]
    return Rollout(tokens, attended, is_response, row_temperatures, np.array(accuracies))


def token_log_probs(model: Qwen2ForCausalLM, rollout: Rollout) -> torch.Tensor:
    """Log-probs of the tokens from the second on, at each row's temperature, (R, L - 1)."""
    logits = model(
        rollout.tokens[:, :-1], attention_mask=rollout.attended[:, :-1], position_ids=rollout.positions[:, :-1]
    ).logits
    scaled = torch.log_softmax(logits / rollout.temperatures[:, None, None], dim=-1)
    return scaled.gather(-1, rollout.tokens[:, 1:, None])[..., 0]


def group_advantages(rewards: np.ndarray, outcome: Outcome, ra: bool) -> np.ndarray:
    """GRPO's advantages of one group, (n,), or RA's for an all-correct one."""
    by_ra = (
        ra_advantages(rewards, RAConfig(enable=True), by_std=True) if outcome is Outcome.ALL_CORRECT and ra else None
    )
    return by_ra if by_ra is not None else (rewards - rewards.mean()) / (rewards.std(ddof=1) + _EPSILON)


class PromptStream:
    """Problems in shuffled epochs."""

    def __init__(self, problems: Sequence[Problem], seed: int) -> None:
        self._endless = self._epochs(list(problems), random.Random(seed))

    def take(self, count: int) -> list[Problem]:
        """The next `count` problems."""
        return [next(self._endless) for _ in range(count)]

    @staticmethod
    def _epochs(problems: list[Problem], generator: random.Random) -> Iterator[Problem]:
        while True:
            generator.shuffle(problems)
            yield from problems


def run(
    arm: Arm,
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    train: Sequence[Problem],
    test: Sequence[Problem],
    config: LoopConfig,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Trains the model in place until the budget is spent.

    Returns:
        Evaluations (tokens, accuracy, pass_at_n, one entry each) and groups (step, temperature, outcome, accuracy,
        tokens), both as rows of a table.
    """
    generator = torch.Generator().manual_seed(seed)
    stream = PromptStream(train, seed)
    tracker = PromptTracker(TrackerConfig.from_dict(arm.schedule))
    optimizer = torch.optim.AdamW(model.parameters(), lr=arm.learning_rate, weight_decay=0.0, fused=True)
    ramp = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / config.ramp))
    evaluations, groups = [_evaluate(model, tokenizer, test, config, seed, tokens=0)], []
    tokens, step = 0, 0
    while tokens < config.budget:
        step += 1
        batch: list[tuple[Rollout, np.ndarray]] = []
        missing = config.prompts
        while missing and tokens < config.budget:
            problems = stream.take(missing)
            keys = keys_array([prompt_key("arithmetic", problem.prompt) for problem in problems])
            temperatures = _temperatures(arm, tracker, keys, tokens / config.budget)
            rollout = roll_out(model, tokenizer, problems, config.n, temperatures, generator, config.max_tokens)
            outcomes = _observe(tracker, keys, problems, rollout, temperatures, step)
            lengths = rollout.is_response.sum(1).numpy().reshape(-1, config.n).sum(1)
            tokens += int(lengths.sum())
            groups += _group_rows(step, rollout, outcomes, lengths, config.n)
            kept = [group for group, outcome in enumerate(outcomes) if outcome not in arm.drop]
            if kept:
                rewards = rollout.accuracies.reshape(-1, config.n)
                advantages = [group_advantages(rewards[group], outcomes[group], arm.ra) for group in kept]
                batch.append((_select(rollout, kept, config.n), np.concatenate(advantages)))
            missing -= len(kept)
        if batch:
            _update(model, optimizer, batch)
            ramp.step()
        if tokens >= config.budget * len(evaluations) / config.evaluations:
            evaluations.append(_evaluate(model, tokenizer, test, config, seed, tokens))
    return evaluations, groups


def _temperatures(arm: Arm, tracker: PromptTracker, keys: np.ndarray, spent: float) -> np.ndarray:
    if arm.rise:
        first, last = arm.rise
        return np.full(len(keys), first + (last - first) * spent)
    return tracker.temperatures_for(keys) if tracker.attaches_temperatures else np.ones(len(keys))


def _observe(
    tracker: PromptTracker,
    keys: np.ndarray,
    problems: Sequence[Problem],
    rollout: Rollout,
    temperatures: np.ndarray,
    step: int,
) -> list[Outcome]:
    rewards = rollout.accuracies.reshape(len(keys), -1)
    n = rewards.shape[1]
    outcomes = [classify(list(row), n, prompt=problem.prompt) for problem, row in zip(problems, rewards, strict=True)]
    tracker.observe(
        GroupOutcomes(
            keys=keys,
            outcomes=np.array(outcomes),
            accuracies=rewards.mean(1),
            sizes=np.full(len(keys), n),
            temperatures=temperatures,
            steps=np.full(len(keys), step),
        )
    )
    return outcomes


def _group_rows(
    step: int, rollout: Rollout, outcomes: Sequence[Outcome], lengths: np.ndarray, n: int
) -> list[dict[str, Any]]:
    return [
        {
            "step": step,
            "temperature": float(rollout.temperatures[group * n]),
            "outcome": outcome.name.lower(),
            "accuracy": float(rollout.accuracies[group * n : (group + 1) * n].mean()),
            "tokens": int(lengths[group]),
        }
        for group, outcome in enumerate(outcomes)
    ]


def _select(rollout: Rollout, kept: Sequence[int], n: int) -> Rollout:
    rows = (torch.as_tensor(kept)[:, None] * n + torch.arange(n)).flatten()
    return Rollout(
        rollout.tokens[rows],
        rollout.attended[rows],
        rollout.is_response[rows],
        rollout.temperatures[rows],
        rollout.accuracies[rows.numpy()],
    )


def _update(
    model: Qwen2ForCausalLM, optimizer: torch.optim.Optimizer, batch: Sequence[tuple[Rollout, np.ndarray]]
) -> None:
    """One on-policy step: the ratio to the sampling policy is 1, and its gradient that of the log-prob."""
    tokens = sum(int(rollout.is_response.sum()) for rollout, _ in batch)
    optimizer.zero_grad()
    for rollout, advantages in batch:
        weights = torch.as_tensor(advantages, dtype=torch.float32)[:, None] * rollout.is_response[:, 1:]
        loss = -(token_log_probs(model, rollout) * weights).sum() / tokens
        loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()


def _evaluate(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    test: Sequence[Problem],
    config: LoopConfig,
    seed: int,
    tokens: int,
) -> dict[str, Any]:
    accuracies = np.array(
        group_accuracies(model, tokenizer, test, config.test_samples, 1.0, seed, max_tokens=config.max_tokens)
    )
    return {"tokens": tokens, "accuracy": float(accuracies.mean()), "pass_at_n": float((accuracies > 0).mean())}
