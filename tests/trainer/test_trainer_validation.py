# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Mean@k with its interval and pass@k of a validation, in numbers that were counted by hand."""

import pytest

from erpo.trainer.config import AccuracyConfig
from erpo.trainer.validation import validation_metrics


def measure(rows, expected, accuracy=None):
    """Metrics of rows (set, prompt, reward, acc)."""
    sources, uids, rewards, accuracies = zip(*rows, strict=True)
    results = {"reward": list(rewards), "acc": list(accuracies)}
    return validation_metrics(sources, uids, results, expected, accuracy or AccuracyConfig())


def test_each_set_has_its_mean_and_its_pass_at_k():
    rows = [("a", "p", 0.0, 1.0)] * 2 + [("a", "q", 0.0, acc) for acc in (1.0, 0.0)] + [("b", "p", 1.0, 0.0)]
    metrics = measure(rows, {("a", "p"): 2, ("a", "q"): 2, ("b", "p"): 1})
    assert metrics["erpo/val/a/mean@2"] == 0.75 and metrics["erpo/val/a/pass@2"] == 1.0
    assert metrics["erpo/val/a/mean_low"] == 0.5 and metrics["erpo/val/a/mean_high"] == 1.0
    assert [metrics[f"erpo/val/b/{name}"] for name in ("mean@1", "mean_low", "mean_high", "pass@1")] == [0.0] * 4


def test_a_response_that_is_missing_or_unscored_is_wrong():
    rows = [("a", "p", 0.0, 1.0), ("a", "p", 0.0, float("nan")), ("a", "p", 0.0, "?")]
    metrics = measure(rows, {("a", "p"): 4, ("a", "lost"): 4})
    assert metrics["erpo/val/a/mean@4"] == 0.125 and metrics["erpo/val/a/pass@4"] == 0.5


def test_pass_at_k_where_prompts_have_different_numbers_of_responses():
    # Of four responses one is right: a pair holds it with probability 1/2.
    rows = [("a", "p", 0.0, acc) for acc in (1.0, 0.0, 0.0, 0.0)] + [("a", "q", 0.0, 0.0)] * 2
    metrics = measure(rows, {("a", "p"): 4, ("a", "q"): 2})
    assert metrics["erpo/val/a/mean@2"] == 0.125 and metrics["erpo/val/a/pass@2"] == pytest.approx(0.25)


def test_correct_is_what_the_settings_say():
    rows = [("a", "p", -1.0, 0.7), ("a", "p", 1.0, 0.2)]
    expected = {("a", "p"): 2}
    assert measure(rows, expected, AccuracyConfig(threshold=0.8))["erpo/val/a/mean@2"] == 0.0
    assert measure(rows, expected, AccuracyConfig(metric="reward"))["erpo/val/a/mean@2"] == 0.5


def test_a_set_that_cannot_be_scored_has_no_number():
    assert measure([("a", "p", None, None)], {("a", "p"): 1}) == {}
    assert measure([("a", "p", 1.0, 1.0)], {("a", "p"): 1}, AccuracyConfig(metric="other")) == {}
