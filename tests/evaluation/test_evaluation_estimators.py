# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Estimators against brute force and against scipy."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erpo.evaluation.estimators import Estimate, bootstrap, majority, pass_at_k, powers_up_to, wilson


@given(st.data())
def test_pass_at_k_is_the_mean_over_all_subsets(data):
    n = data.draw(st.integers(1, 9))
    k = data.draw(st.integers(1, n))
    responses = data.draw(st.lists(st.booleans(), min_size=n, max_size=n))
    by_hand = np.mean([any(subset) for subset in itertools.combinations(responses, k)])
    assert pass_at_k(np.array([sum(responses)]), n, k)[0] == pytest.approx(by_hand, abs=1e-12)


def test_pass_at_k_of_many_responses_stays_a_probability():
    values = pass_at_k(np.arange(2049), n=2048, k=1024)
    assert values[0] == 0 and values[1] == pytest.approx(0.5) and values[-1] == 1
    assert (np.diff(values) >= 0).all()


@pytest.mark.parametrize("k", [0, 5])
def test_pass_at_k_refuses_more_responses_than_there_are(k):
    with pytest.raises(ValueError, match="between 1 and n"):
        pass_at_k(np.array([1]), n=4, k=k)


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8]), (32, [1, 2, 4, 8, 16, 32])]
)
def test_powers(n, expected):
    assert powers_up_to(n) == expected


@pytest.mark.parametrize(
    ("answers", "correct", "expected"),
    [
        (["7", "7", "8"], [True, True, False], 1.0),
        (["7", "8", "8"], [True, False, False], 0.0),
        (["7", "8"], [True, False], 0.5),  # a tie: an even chance
        (["7", "8", "9", "9"], [True, False, False, False], 0.0),
        ([None, None, "7"], [False, False, True], 1.0),  # no answer, no vote
        ([None, None], [False, False], 0.0),
        (["1/2", "1/2", "0.5"], [True, False, True], 1.0),  # the right ones vote together, in any spelling
        ([None, None, "8"], [True, True, False], 1.0),  # and without an answer that could be read
        (["0.5", "1/2", "8", "9", "8"], [True, True, False, False, False], 0.5),
        (["7", "8", "9"], [True, False, False], 1 / 3),
    ],
)
def test_majority(answers, correct, expected):
    assert majority(answers, correct) == expected


def test_bootstrap_interval_is_that_of_the_normal_approximation_and_repeats():
    values = np.random.default_rng(1).random(400)
    estimate = bootstrap(values, seed=3)
    half = 1.96 * values.std() / len(values) ** 0.5
    assert estimate.value == pytest.approx(values.mean())
    assert (estimate.low, estimate.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.002)
    assert bootstrap(values, seed=3) == estimate != bootstrap(values, seed=4)


def test_bootstrap_of_one_prompt_is_a_point():
    assert bootstrap(np.array([0.25]), seed=0) == Estimate(0.25, 0.25, 0.25)


def test_bootstrap_of_a_large_set_fits_into_memory():
    values = np.zeros(20_000)
    values[::2] = 1
    estimate = bootstrap(values, seed=0)
    assert estimate.low < 0.5 < estimate.high and estimate.high - estimate.low < 0.016


def test_wilson_has_an_interval_where_the_share_is_0_or_1():
    # By hand, with z = 1.96: z^2 / (n + z^2) = 3.8415 / 13.8415.
    assert wilson(0, 10) == Estimate(0.0, 0.0, pytest.approx(0.27753, abs=1e-4))
    assert wilson(10, 10) == Estimate(1.0, pytest.approx(0.72247, abs=1e-4), 1.0)
