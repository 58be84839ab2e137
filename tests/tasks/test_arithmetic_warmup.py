# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Sampling and warm-up, against plain computations and with a real, very short training."""

from collections.abc import Iterator

import pytest
import torch
from transformers import Qwen2ForCausalLM

from erpo.tasks.arithmetic import warmup
from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tasks.arithmetic.sampling import group_accuracies, sample_responses
from erpo.tasks.arithmetic.task import MAX_RESPONSE_TOKENS, Problem, distinct_problems, make_pools
from erpo.tasks.arithmetic.warmup import WarmupConfig, make_batch, training_problems, warm_up

torch.set_num_threads(1)
TOKENIZER = build_tokenizer()
MEMORISED = distinct_problems(seed=9, count=2)


@pytest.fixture(scope="module")
def trained() -> Qwen2ForCausalLM:
    """A model that has seen nothing but two problems."""
    model = build_model(TOKENIZER, seed=0)

    def two_problems(seed: int, exclude: object, operations: object) -> Iterator[Problem]:
        while True:
            yield from MEMORISED

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(warmup, "training_problems", two_problems)
        config = WarmupConfig(target_accuracy=0.9, max_steps=150, evaluate_every=10, batch_size=4)
        result = warm_up(model, TOKENIZER, MEMORISED * 20, (), config)
    assert 0.9 <= result.validation_accuracy <= 1.0
    assert result.steps < 150
    return model


def test_warm_up_teaches_what_sampling_then_shows(trained: Qwen2ForCausalLM) -> None:
    accuracies = group_accuracies(trained, TOKENIZER, MEMORISED, samples=64, temperature=1.0, seed=0)
    assert len(accuracies) == 2
    assert 0.75 < min(accuracies) <= max(accuracies) <= 1.0
    untrained = build_model(TOKENIZER, seed=0)
    assert max(group_accuracies(untrained, TOKENIZER, MEMORISED, samples=64, temperature=1.0, seed=0)) < 0.25


def test_hotter_sampling_is_less_accurate(trained: Qwen2ForCausalLM) -> None:
    assert max(group_accuracies(trained, TOKENIZER, MEMORISED, samples=64, temperature=5.0, seed=0)) < 0.5


def test_cold_sampling_is_greedy_decoding(trained: Qwen2ForCausalLM) -> None:
    prompts = [problem.prompt for problem in distinct_problems(seed=10, count=10)]
    expected = []
    for prompt in prompts:
        ids = TOKENIZER(prompt, return_tensors="pt")
        output = trained.generate(**ids, do_sample=False, max_new_tokens=MAX_RESPONSE_TOKENS)[0]
        expected.append(TOKENIZER.decode(output[len(prompt) :], skip_special_tokens=True))
    assert sample_responses(trained, TOKENIZER, prompts, temperature=1e-4, seed=0) == expected


def test_sampling_follows_its_seed() -> None:
    model = build_model(TOKENIZER, seed=0)
    prompts = [problem.prompt for problem in distinct_problems(seed=10, count=10)]
    first, again, other = (sample_responses(model, TOKENIZER, prompts, 1.0, seed) for seed in (0, 0, 1))
    assert first == again != other


def test_labels_are_the_response_and_the_end_of_sequence() -> None:
    problems = distinct_problems(seed=9, count=5)
    tokens, labels = make_batch(TOKENIZER, problems)
    assert tokens.shape == labels.shape == (5, 15 + 30 + 1)
    for row, problem in enumerate(problems):
        kept = labels[row][labels[row] != -100].tolist()
        assert TOKENIZER.decode(kept) == problem.response + TOKENIZER.eos_token
        assert torch.equal(tokens[row][labels[row] != -100], labels[row][labels[row] != -100])
        length = len(problem.prompt) + len(problem.response)
        assert TOKENIZER.decode(tokens[row, :length]) == problem.prompt + problem.response


def test_warm_up_data_excludes_the_pools() -> None:
    # A pool from the same seed as the data would be met at once.
    problems = training_problems(seed=0, exclude=())
    pool = frozenset(next(problems).prompt for _ in range(300))
    filtered = training_problems(seed=0, exclude=pool)
    assert pool.isdisjoint(next(filtered).prompt for _ in range(1000))


def test_warm_up_is_deterministic() -> None:
    pools = make_pools(4, 4, 4)
    config = WarmupConfig(target_accuracy=0.0, max_steps=3, evaluate_every=3, batch_size=4)
    models = [build_model(TOKENIZER, seed=0) for _ in range(2)]
    results = [warm_up(model, TOKENIZER, pools.validation, pools.prompts, config) for model in models]
    assert results[0] == results[1]
    assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in models), strict=True))
    assert not torch.equal(models[0].lm_head.weight, build_model(TOKENIZER, seed=0).lm_head.weight)


def test_a_missed_target_is_an_error_that_says_what_to_change() -> None:
    pools = make_pools(4, 4, 4)
    config = WarmupConfig(target_accuracy=0.5, max_steps=2, batch_size=2)
    with pytest.raises(RuntimeError, match=r"accuracy 0\.5 within 2 steps .*lower target_accuracy or raise max_steps"):
        warm_up(build_model(TOKENIZER, seed=0), TOKENIZER, pools.validation, pools.prompts, config)


@pytest.mark.parametrize(
    "setting",
    [
        {"target_accuracy": 1.0},
        {"target_accuracy": -0.1},
        {"target_accuracy": float("nan")},
        {"max_steps": 0},
        {"batch_size": -1},
        {"learning_rate": 0.0},
        {"evaluate_every": 0},
    ],
)
def test_settings_without_sense_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        WarmupConfig(**setting)  # type: ignore[arg-type]
