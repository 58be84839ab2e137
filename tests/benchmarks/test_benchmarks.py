# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The check of new ratios against committed ones, the alternative of the tracker's benchmark, and the research loop."""

import numpy as np
import pytest
import torch

from benchmarks.__main__ import TOLERANCE, regressions
from benchmarks.research.loop import Arm, LoopConfig, Rollout, group_advantages, roll_out, run, token_log_probs
from benchmarks.tracker import DictTracker
from erpo.tasks.arithmetic.model import build_model, build_tokenizer
from erpo.tasks.arithmetic.task import distinct_problems
from erpo.tracker import GroupOutcomes, Outcome, PromptTracker, TrackerConfig, keys_array

COMMITTED = {"machine": {"cores": 2}, "tracker": {"1e4": {"batch_ms": 0.1, "batch_ratio_to_dict": 0.5}}}


@pytest.mark.parametrize(
    ("ratio", "named"), [(0.5 * TOLERANCE * 0.99, False), (0.5 * TOLERANCE * 1.01, True), (0.1, False)]
)
def test_only_ratios_that_became_worse_are_named(ratio, named):
    new = {"machine": {"cores": 64}, "tracker": {"1e4": {"batch_ms": 9.0, "batch_ratio_to_dict": ratio}}}
    assert bool(list(regressions(COMMITTED, new))) is named


def test_a_benchmark_that_was_not_run_is_no_regression():
    assert not list(regressions(COMMITTED, {"machine": {}}))


def test_the_alternative_does_the_trackers_work():
    generator = np.random.default_rng(0)
    keys = [bytes([i]) * 16 for i in range(8)]
    tracker, alternative = PromptTracker(TrackerConfig(name="linear")), DictTracker()
    for step in range(30):
        temperatures = tracker.temperatures_for(keys_array(keys))
        assert alternative.temperatures_for(keys) == pytest.approx(temperatures.tolist())
        outcomes = generator.integers(0, 3, size=8).astype(np.int8)
        tracker.observe(
            GroupOutcomes(keys_array(keys), outcomes, np.full(8, 0.5), np.full(8, 4), temperatures, np.full(8, step))
        )
        alternative.observe(keys, outcomes.tolist(), [0.5] * 8, step)
    frame = tracker.frame().set_index("key").loc[[key.hex() for key in keys]]
    for column, name in (("visits", "visits"), ("revivals", "revivals"), ("streak", "streak")):
        assert frame[column].tolist() == [alternative.prompts[key][name] for key in keys]


@pytest.fixture(scope="module")
def tiny():
    tokenizer = build_tokenizer()
    return build_model(tokenizer, seed=0), tokenizer


def test_log_probs_of_the_loop_are_those_of_sampling(tiny):
    """Left padding, cache and temperature: each row alone, without any of them, has the same log-probs."""
    model, tokenizer = tiny
    problems = distinct_problems(5, 5)
    rollout = roll_out(model, tokenizer, problems, 2, np.linspace(0.5, 2.0, 5), torch.Generator().manual_seed(0))
    batched = token_log_probs(model, rollout).detach()
    for row in range(10):
        attended = rollout.attended[row]
        tokens = rollout.tokens[row][attended][None]
        logits = model(tokens[:, :-1]).logits / rollout.temperatures[row]
        alone = torch.log_softmax(logits, -1).gather(-1, tokens[:, 1:, None])[0, :, 0]
        chosen = rollout.is_response[row][attended][1:]
        torch.testing.assert_close(batched[row][rollout.is_response[row, 1:]], alone[chosen], atol=1e-5, rtol=0)


def test_responses_end_at_the_end_of_sequence_token(tiny):
    model, tokenizer = tiny
    rollout: Rollout = roll_out(
        model, tokenizer, distinct_problems(5, 8), 4, np.ones(8), torch.Generator().manual_seed(1)
    )
    for tokens, is_response in zip(rollout.tokens, rollout.is_response, strict=True):
        ends = (tokens[is_response] == tokenizer.eos_token_id).nonzero().flatten().tolist()
        assert ends in ([], [int(is_response.sum()) - 1])


def test_advantages_of_a_group():
    mixed = group_advantages(np.array([1.0, 0.0, 0.0, 1.0]), Outcome.MIXED, ra=True)
    assert mixed == pytest.approx(np.array([1, -1, -1, 1]) * 0.8660, abs=1e-3)
    assert group_advantages(np.ones(8), Outcome.ALL_CORRECT, ra=True) == pytest.approx([1 / 3] * 8, abs=1e-5)
    assert group_advantages(np.ones(8), Outcome.ALL_CORRECT, ra=False) == pytest.approx([0] * 8)


def test_a_run_spends_its_budget_and_counts_what_it_dropped(tiny):
    model, tokenizer = tiny
    config = LoopConfig(prompts=2, n=2, budget=400, evaluations=2, test_samples=1)
    arm = Arm("drops", {"name": "constant", "constant": {"temperature": 1.5}}, drop=(Outcome.ALL_WRONG,))
    before = [parameter.clone() for parameter in model.parameters()]
    evaluations, groups = run(arm, model, tokenizer, distinct_problems(5, 4), distinct_problems(6, 4), config, seed=0)
    assert sum(group["tokens"] for group in groups) == evaluations[-1]["tokens"] >= 400
    assert {group["temperature"] for group in groups} == {1.5}
    # All groups of an untrained model are wrong, so nothing was trained on.
    assert all(torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
