# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""RA against the closed form of the method and against verl's own GRPO with the pseudo sample put into the group."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage

from erpo.trainer.advantage import ra_advantages
from erpo.trainer.config import RAConfig


@pytest.mark.parametrize("group_size", [2, 4, 8, 16])
@pytest.mark.parametrize(("correct", "wrong"), [(1.0, 0.0), (1.0, -1.0), (0.9, 0.1)])
def test_one_pseudo_sample_gives_one_over_sqrt_of_group_size_plus_one(group_size, correct, wrong):
    advantages = ra_advantages(np.full(group_size, correct), RAConfig(pseudo_reward=wrong), by_std=True)
    np.testing.assert_allclose(advantages, 1 / np.sqrt(group_size + 1), rtol=1e-5)


def test_group_of_eight_is_the_documented_third():
    assert ra_advantages(np.ones(8), RAConfig(), by_std=True)[0] == pytest.approx(0.3333, abs=1e-4)


def test_without_std_the_advantage_is_the_share_of_pseudo_samples():
    np.testing.assert_allclose(ra_advantages(np.ones(8), RAConfig(count=2), by_std=False), 2 / 10)


@given(
    rewards=st.lists(st.floats(0.5, 1.0), min_size=2, max_size=12),
    count=st.integers(1, 3),
    wrong=st.sampled_from([0.0, -1.0]),
    by_std=st.booleans(),
)
def test_equals_verls_grpo_with_the_pseudo_samples_in_the_group(rewards, count, wrong, by_std):
    joined = [*rewards, *[wrong] * count]
    expected, _ = compute_grpo_outcome_advantage(
        token_level_rewards=torch.tensor(joined, dtype=torch.float64).unsqueeze(1),
        response_mask=torch.ones(len(joined), 1, dtype=torch.float64),
        index=np.array(["group"] * len(joined), dtype=object),
        norm_adv_by_std_in_grpo=by_std,
    )
    got = ra_advantages(np.array(rewards), RAConfig(count=count, pseudo_reward=wrong), by_std=by_std)
    np.testing.assert_allclose(got, expected.squeeze(1)[: len(rewards)].numpy(), atol=1e-6)


def test_scale_and_decay_at_the_cap():
    config = RAConfig(scale=0.5, cap_decay=0.9)
    full = ra_advantages(np.ones(8), RAConfig(), by_std=True)
    np.testing.assert_allclose(ra_advantages(np.ones(8), config, by_std=True, capped_visits=3), full * 0.5 * 0.9**3)


def test_a_group_that_a_penalty_took_down_to_the_pseudo_reward_is_left_alone():
    assert ra_advantages(np.array([1.0, 1.0, 1.0, 0.0]), RAConfig(), by_std=True) is None
