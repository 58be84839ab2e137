# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""RA ("reactivate training signal"): a small positive advantage for the responses of an all-correct group.

One definition for every estimator of advantages: pseudo samples with the reward of a wrong answer join the group,
verl's own estimator is run on the joined batch, and what it gives the pseudo samples is dropped.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from verl.protocol import DataProto
from verl.trainer.ppo.ray_trainer import compute_advantage

from erpo.trainer.config import RAConfig


def joined_advantages(
    rewards: NDArray[np.float64],
    lengths: NDArray[np.int64],
    uids: Iterable[str],
    capped_visits: Mapping[str, int],
    config: RAConfig,
    estimate: Callable[[DataProto], DataProto],
) -> dict[int, float]:
    """Advantages of all-correct groups that were joined by pseudo samples.

    With G responses of reward r, m pseudo samples of reward w and d = r - w, verl's estimators give::

        grpo, grpo_vectorized    sqrt(m (G + m - 1) / (G (G + m))), which is 1/sqrt(G + 1) for m = 1, whatever d is
        grpo without std, opo    m d / (G + m)
        rloo, rloo_vectorized    m d / (G + m - 1)
        gpg                      alpha m d / (G + m), alpha = samples / samples with a reward other than 0

    A pseudo sample is as long as the mean response of its group, by which OPO weighs it. GPG's alpha is that of the
    joined batch.

    Args:
        rewards: Reward of each response that verl gives the estimator, (rows,); those of a group may differ, by a
            length penalty or a KL term for instance.
        lengths: Tokens of each that the response mask keeps, (rows,).
        uids: Group of each, (rows,).
        capped_visits: The all-correct groups, and how often their prompts were all-correct at the temperature cap.
        config: Pseudo reward, count, scale and decay.
        estimate: verl's ``compute_advantage`` with the estimator and its settings.

    Returns:
        Row -> advantage of each response of these groups. Without the groups that hold a reward not above the pseudo
        reward: a penalty took it there, and beside it the pseudo sample would be no wrong answer.
    """
    uids = list(uids)
    rows_of: dict[str, list[int]] = {}
    for row, uid in enumerate(uids):
        if uid in capped_visits:
            rows_of.setdefault(uid, []).append(row)
    rows_of = {uid: rows for uid, rows in rows_of.items() if rewards[rows].min() > config.pseudo_reward}
    if not rows_of:
        return {}
    pseudo_uids = [uid for uid in rows_of for _ in range(config.count)]
    # Where verl's rejection masks all tokens of a group, any length will do.
    mean_lengths = [lengths[rows].mean() or 1.0 for rows in rows_of.values()]
    joined = _batch(
        np.append(rewards, np.full(len(pseudo_uids), config.pseudo_reward)),
        np.append(lengths, np.repeat(mean_lengths, config.count)),
        uids + pseudo_uids,
    )
    advantages = estimate(joined).batch["advantages"][:, 0].tolist()
    return {
        row: advantages[row] * config.scale * config.cap_decay ** capped_visits[uid]
        for uid, rows in rows_of.items()
        for row in rows
    }


def _batch(rewards: NDArray[np.float64], lengths: NDArray[np.float64], uids: list[str]) -> DataProto:
    """verl's batch with two tokens a response: the first has the reward, the second stands for the rest of its length.

    The estimators that RA works with read no more of it than the sums of rewards and mask, and give every token of a
    response the same advantage. All tokens of a large batch would be gigabytes. In float64, for A is a small difference
    of rewards.
    """
    tensors = {
        "token_level_rewards": np.stack([rewards, np.zeros_like(rewards)], axis=1),
        "response_mask": np.stack([np.ones_like(lengths), lengths - 1], axis=1),
    }
    return DataProto.from_dict(
        {name: torch.from_numpy(values) for name, values in tensors.items()},
        {"uid": np.array(uids, dtype=object)},
    )


def ra_advantages(
    rewards: NDArray[np.float64], config: RAConfig, *, by_std: bool, capped_visits: int = 0
) -> NDArray[np.float64] | None:
    """RA of one all-correct group under GRPO.

    Args:
        rewards: Rewards of the group's responses, (G,).
        config: Pseudo reward, count, scale and decay.
        by_std: Whether GRPO divides by the group's standard deviation (``norm_adv_by_std_in_grpo``).
        capped_visits: All-correct visits of the prompt at the temperature cap.

    Returns:
        (G,) advantages, or None where `joined_advantages` leaves the group out.
    """
    estimate = partial(compute_advantage, adv_estimator="grpo", norm_adv_by_std_in_grpo=by_std)
    lengths = np.ones(len(rewards), dtype=np.int64)
    found = joined_advantages(rewards, lengths, ["group"] * len(rewards), {"group": capped_visits}, config, estimate)
    return np.array([found[row] for row in range(len(rewards))]) if found else None
