# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The check of new ratios against committed ones, and the alternative of the tracker's benchmark."""

import numpy as np
import pytest

from benchmarks import log_probs
from benchmarks.__main__ import TOLERANCE, regressions
from benchmarks.tracker import DictTracker
from erpo.tracker import GroupOutcomes, PromptTracker, TrackerConfig, keys_array

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


@pytest.mark.parametrize("variant", log_probs.VARIANTS)
def test_log_probs_of_every_variant_are_right(monkeypatch, variant):
    monkeypatch.setattr(log_probs, "VOCABULARY", 256)
    seconds, peak, error = log_probs._measure_variant(variant, 64, 96)
    assert seconds > 0 and peak >= 0
    assert error < 1e-5
