# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Step metrics, by hand-counted groups."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from erpo.tracker import Outcome
from erpo.trainer.groups import Group
from erpo.trainer.metrics import Totals, describe_groups, group_metrics, log_prob_metrics, signal_metrics, step_line


def group(outcome, temperature=1.0, previous=-1, revived=False, lengths=(4, 6), truncated=0):
    return Group(
        uid=f"{outcome}{temperature}",
        key=b"k" * 16,
        step=1,
        temperature=temperature,
        expected=len(lengths),
        accuracies=[float(outcome == Outcome.ALL_CORRECT)] * len(lengths),
        correct=len(lengths) if outcome == Outcome.ALL_CORRECT else int(outcome == Outcome.MIXED),
        lengths=list(lengths),
        truncated=truncated,
        outcome=outcome,
        previous=previous,
        revived=revived,
    )


GROUPS = [
    group(Outcome.ALL_CORRECT),
    group(Outcome.ALL_CORRECT, temperature=1.2, previous=Outcome.ALL_CORRECT),
    group(Outcome.MIXED, temperature=1.4, previous=Outcome.ALL_CORRECT, revived=True, lengths=(10, 20), truncated=1),
    group(Outcome.ALL_WRONG, previous=Outcome.MIXED),
    group(Outcome.INCOMPLETE),
]
SETTLED = [(one, None) for one in GROUPS]


def test_groups_that_are_not_trained_on_are_counted_by_the_reason():
    reasons = ["filtered", "surplus", "filtered", "stale", None]
    metrics = group_metrics(list(zip(GROUPS, reasons, strict=True)), base_temperature=1.0)
    assert [metrics[f"erpo/groups/{name}"] for name in ("filtered", "surplus", "stale")] == [2, 1, 1]


def test_shares_revivals_and_temperatures_are_over_complete_groups():
    metrics = group_metrics(SETTLED, base_temperature=1.0)
    assert metrics["erpo/groups/count"] == 5
    assert metrics["erpo/groups/frac_all_correct"] == 0.5
    assert metrics["erpo/groups/frac_mixed"] == 0.25
    assert metrics["erpo/groups/frac_all_wrong"] == 0.25
    # Two groups followed an all-correct visit, one of them is mixed now.
    assert metrics["erpo/revived/frac"] == 0.5
    assert metrics["erpo/revived/count"] == 1
    assert metrics["erpo/temperature/mean"] == pytest.approx(4.6 / 4)
    assert metrics["erpo/temperature/max"] == 1.4
    assert metrics["erpo/temperature/frac_raised"] == 0.5


def test_raised_and_base_groups_are_apart():
    metrics = group_metrics(SETTLED, base_temperature=1.0)
    assert metrics["erpo/raised/response_length_mean"] == (4 + 6 + 10 + 20) / 4
    assert metrics["erpo/raised/frac_truncated"] == 0.25
    assert metrics["erpo/raised/accuracy"] == 0.75
    assert metrics["erpo/base/accuracy"] == 0.5


def test_a_share_of_nothing_is_left_out():
    metrics = group_metrics([(group(Outcome.MIXED), None)], base_temperature=1.0)
    assert "erpo/revived/frac" not in metrics
    assert "erpo/raised/accuracy" not in metrics
    assert set(group_metrics([], 1.0).values()) == {0.0}


def test_totals_count_every_generated_token():
    totals = Totals()
    totals.add(GROUPS)
    assert (totals.groups, totals.responses, totals.tokens) == (5, 10, 4 * 10 + 30)


def nested(*rows):
    return torch.nested.as_nested_tensor([torch.tensor(row) for row in rows], layout=torch.jagged)


def test_signal_of_mixed_groups_and_of_ra_are_apart():
    advantages = torch.tensor([[0.5, 0.5], [0.0, 0.0], [0.3, 0.0], [0.0, -1.0]])
    outcomes = [Outcome.MIXED, Outcome.ALL_WRONG, Outcome.ALL_CORRECT, Outcome.ALL_CORRECT]
    prefix = "erpo/signal/frac_responses_with_gradient"
    # The last response is all-correct too, but its gradient comes from a penalty, not from RA.
    assert signal_metrics(advantages, outcomes, np.array([False, False, True, False])) == {
        prefix: 0.75,
        f"{prefix}_mixed": 0.25,
        f"{prefix}_ra": 0.25,
        f"{prefix}_shaped": 0.25,
    }


def test_log_prob_agreement_reads_only_unmasked_tokens_and_splits_by_temperature():
    data = TensorDict(
        {
            "old_log_probs": nested([-1.0, -2.0], [-0.5, -9.0]),
            "rollout_log_probs": nested([-1.0, -2.0], [-0.25, 0.0]),
            "response_mask": nested([1, 1], [1, 0]),
        },
        batch_size=2,
    )
    groups = [group(Outcome.MIXED), group(Outcome.MIXED, temperature=1.5)]
    metrics = log_prob_metrics(data, groups, base_temperature=1.0)
    assert metrics["erpo/base/probs_diff_max"] == 0.0
    assert metrics["erpo/raised/probs_diff_max"] == pytest.approx(np.exp(-0.25) - np.exp(-0.5))
    assert metrics["erpo/raised/rollout_train_kl"] == pytest.approx(0.25)


def test_every_group_is_described_by_its_own_tokens():
    data = TensorDict(
        {
            "old_log_probs": nested([-1.0, -2.0], [-0.5, -9.0], [-1.0]),
            "rollout_log_probs": nested([-1.0, -2.0], [-0.25, 0.0], [-1.5]),
            "entropy": nested([0.5, 0.25], [1.0, 7.0], [0.75]),
            "response_mask": nested([1, 1], [1, 0], [1]),
        },
        batch_size=3,
    )
    first, second = group(Outcome.MIXED), group(Outcome.MIXED, temperature=1.5)
    describe_groups(data, [second, first, second])
    assert (second.entropy, second.probs_diff_max) == pytest.approx(
        ((0.5 + 0.25 + 0.75) / 3, np.exp(-1) - np.exp(-1.5))
    )
    assert second.probs_diff_mean == pytest.approx((np.exp(-1) - np.exp(-1.5)) / 3)
    assert (first.entropy, first.probs_diff_max) == pytest.approx((1.0, np.exp(-0.25) - np.exp(-0.5)))
    describe_groups(data.exclude("entropy"), [first, first, first])
    assert first.probs_diff_max == pytest.approx(np.exp(-0.25) - np.exp(-0.5))


@pytest.mark.parametrize("temperature", [1.0, 1.5])
def test_a_group_without_a_token_of_the_model_has_no_agreement(temperature):
    # An environment that failed: every token of two responses is masked out.
    data = TensorDict(
        {
            "old_log_probs": torch.tensor([[-1.0, 0.0], [-0.5, -9.0], [0.0, 0.0]]),
            "rollout_log_probs": torch.tensor([[-1.5, 0.0], [-0.25, 0.0], [0.0, 0.0]]),
            "entropy": torch.tensor([[0.5, 0.0], [1.0, 7.0], [0.0, 0.0]]),
            "response_mask": torch.tensor([[1, 0], [0, 0], [0, 0]]),
        },
        batch_size=3,
    )
    first, empty = group(Outcome.MIXED), group(Outcome.ALL_WRONG, temperature=temperature)
    metrics = log_prob_metrics(data, [first, empty, empty], base_temperature=1.0)
    assert set(metrics) == {f"erpo/base/{name}" for name in ("probs_diff_max", "probs_diff_mean", "rollout_train_kl")}
    assert metrics["erpo/base/probs_diff_max"] == pytest.approx(np.exp(-1) - np.exp(-1.5))
    describe_groups(data, [first, empty, empty])
    assert first.entropy == 0.5
    assert (empty.entropy, empty.probs_diff_mean, empty.probs_diff_max) == (None, None, None)


def test_console_line_is_one_line_and_names_what_matters():
    metrics = {**group_metrics(SETTLED, 1.0), "val-core/arithmetic/acc/mean@4": 0.61, "timing_s/step": 1.25}
    line = step_line(metrics, step=3, total_steps=60)
    assert "\n" not in line
    assert line.startswith("step 3/60 | held-out accuracy 0.610 | all-correct 50% | mixed 25%")
    assert "revived 1" in line


@pytest.mark.parametrize("settled", [[], [(group(Outcome.INCOMPLETE), None)]], ids=["all-failed", "all-incomplete"])
def test_console_line_of_a_step_without_a_complete_group(settled):
    metrics = {**group_metrics(settled, 1.0), "timing_s/step": 1.25}
    assert step_line(metrics, step=3, total_steps=60) == "step 3/60 | 1.2 s"
