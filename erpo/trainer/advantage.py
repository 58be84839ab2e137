# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""RA ("reactivate training signal"): a small positive advantage for the responses of an all-correct group."""

import numpy as np
from numpy.typing import NDArray

from erpo.trainer.config import RAConfig

# verl's GRPO divides by (std + 1e-6).
_EPSILON = 1e-6


def ra_advantages(
    rewards: NDArray[np.float64], config: RAConfig, *, by_std: bool, capped_visits: int = 0
) -> NDArray[np.float64] | None:
    """Advantages of an all-correct group whose statistics were joined by pseudo samples with the wrong reward.

    With G responses of reward r, m pseudo samples of reward w and verl's unbiased standard deviation::

        mean = (G r + m w) / (G + m)        std = sqrt(G m (r - w)^2 / ((G + m)(G + m - 1)))
        A = (r - mean) / std = sqrt(m (G + m - 1) / (G (G + m)))

    which is 1/sqrt(G + 1) for m = 1, whatever the reward scale. Without the division by std, A = m (r - w) / (G + m).

    Args:
        rewards: Rewards of the group's responses, (G,); they may differ, by a length penalty or a KL term for instance.
        config: Pseudo reward, count and scale.
        by_std: Whether the estimator divides by the group's standard deviation (``norm_adv_by_std_in_grpo``).
        capped_visits: All-correct visits of the prompt at the temperature cap.

    Returns:
        (G,) advantages; the pseudo samples themselves get none. None where a response's reward is not above the pseudo
        reward: a penalty took it there, and beside it the pseudo sample would be no wrong answer.
    """
    if rewards.min() <= config.pseudo_reward:
        return None
    joined = np.concatenate([rewards, np.full(config.count, config.pseudo_reward)])
    advantages = rewards - joined.mean()
    if by_std:
        advantages = advantages / (joined.std(ddof=1) + _EPSILON)
    return advantages * config.scale * config.cap_decay**capped_visits
