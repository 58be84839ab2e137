# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Supervised warm-up of the untrained model, up to a measured accuracy."""

import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM

from erpo.tasks.arithmetic.sampling import group_accuracies
from erpo.tasks.arithmetic.task import OPERATION_COUNTS, Problem, draw_problem
from erpo.tasks.supervised import IGNORED, supervised_steps

# Steps over which the learning rate rises; then it stays.
RAMP_STEPS = 30


@dataclass(frozen=True)
class WarmupConfig:
    """Settings of the warm-up.

    Attributes:
        target_accuracy: The warm-up stops at the first measured accuracy that reaches this; 0 <= target < 1. The
            accuracy is the share of right responses sampled at temperature 1, one for each validation prompt.
        max_steps: The warm-up fails if it needs more steps than this.
        evaluate_every: Steps between two measurements.
        batch_size: Worked answers in a step.
        learning_rate: AdamW's, constant after a short rise. A rate that decays reaches the accuracy sooner but leaves
            a model that reinforcement learning improves on its training prompts alone.
        seed: Seed of the initial weights, the data and the sampling.
    """

    target_accuracy: float = 0.5
    max_steps: int = 3000
    evaluate_every: int = 25
    batch_size: int = 64
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ValueError, in one sentence, for a value that makes no sense."""
        if not 0 <= self.target_accuracy < 1:
            raise ValueError(f"target_accuracy must be at least 0 and below 1, got {self.target_accuracy}")
        for name in ("max_steps", "evaluate_every", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")


@dataclass(frozen=True)
class WarmupResult:
    """Outcome of a warm-up: number of steps taken, and the accuracy on the validation prompts at which it stopped."""

    steps: int
    validation_accuracy: float


def warm_up(
    model: Qwen2ForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    validation: Sequence[Problem],
    exclude: Collection[str],
    config: WarmupConfig,
    operations: Sequence[int] = OPERATION_COUNTS,
) -> WarmupResult:
    """Trains the model in place with next-token steps on fresh worked answers, until it reaches the target accuracy.

    Deterministic for a given seed and number of threads.

    Args:
        model: Untrained model.
        tokenizer: Its tokenizer.
        validation: Problems that decide when to stop.
        exclude: Prompts that may not occur in the data; should contain every pool, `validation` included.
        config: Settings.
        operations: Numbers of operations of the problems trained on.

    Raises:
        RuntimeError: If `max_steps` steps do not reach the target accuracy.
    """
    problems = training_problems(config.seed, exclude, operations)
    max_tokens = 5 * max(operations) + 1  # see erpo.tasks.arithmetic.task
    accuracy = 0.0

    def add_gradients() -> float:
        return _accumulate_gradients(model, tokenizer, [next(problems) for _ in range(config.batch_size)])

    adamw = {"lr": config.learning_rate, "betas": (0.9, 0.98), "weight_decay": 0.01}
    for step, loss, progress in supervised_steps(model, add_gradients, config.max_steps, RAMP_STEPS, 10.0, **adamw):
        if step % config.evaluate_every == 0 or step == config.max_steps:
            scores = group_accuracies(
                model, tokenizer, validation, 1, temperature=1.0, seed=config.seed, max_tokens=max_tokens
            )
            accuracy = sum(scores) / len(scores)
            progress.set_postfix(loss=f"{loss:.3f}", accuracy=f"{accuracy:.3f}")
            if accuracy >= config.target_accuracy:
                model.eval()
                return WarmupResult(step, accuracy)
    raise RuntimeError(
        f"the warm-up did not reach accuracy {config.target_accuracy} within {config.max_steps} steps "
        f"(last measured: {accuracy:.3f}); lower target_accuracy or raise max_steps"
    )


def _accumulate_gradients(
    model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, problems: Sequence[Problem]
) -> float:
    """Adds the gradients of the mean loss over all response tokens of a batch; returns that loss."""
    response_tokens = sum(len(problem.response) + 1 for problem in problems)
    ordered = sorted(problems, key=lambda problem: problem.operations)
    middle = (len(ordered) + 1) // 2
    total = 0.0
    # Two halves, the short and the long problems: in one piece almost a third of the batch would be padding.
    for half in filter(None, (ordered[:middle], ordered[middle:])):
        tokens, labels = make_batch(tokenizer, half)
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        summed = cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum")
        loss = summed / response_tokens
        loss.backward()
        total += loss.item()
    return total


def training_problems(
    seed: int, exclude: Collection[str], operations: Sequence[int] = OPERATION_COUNTS
) -> Iterator[Problem]:
    """Yields problems without end, k uniform, none with a prompt in `exclude`."""
    generator = random.Random(seed)
    while True:
        problem = draw_problem(generator, generator.choice(operations))
        if problem.prompt not in exclude:
            yield problem


def make_batch(tokenizer: PreTrainedTokenizerFast, problems: Sequence[Problem]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokenizes problems for training on the response, end of sequence included.

    Returns:
        Tokens and labels, both (batch, longest prompt + response). Padding is on the right, where a causal model
        needs no attention mask; labels are -100 on prompts and padding.
    """
    texts = [problem.prompt + problem.response + tokenizer.eos_token for problem in problems]
    tokens = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")["input_ids"]
    labels = tokens.masked_fill(tokens == tokenizer.pad_token_id, IGNORED)
    for row, problem in enumerate(problems):
        labels[row, : len(problem.prompt)] = IGNORED
    return tokens, labels
