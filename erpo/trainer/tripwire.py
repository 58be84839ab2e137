# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tripwire: were raised prompts sampled at their temperatures?

An agent loop that builds sampling parameters of its own samples every prompt at one temperature T0, and training at T_q
is then silently off-policy. To first order in T_q / T0 - 1, for a token y sampled at T0 and scored at T_q,

    log p_rollout(y) - log p_train(y) = s (T_q / T0 - 1) (log p_train(y) + H),   s = 1,

H the entropy of p_train; sampled at T_q, the left side is noise, and s = 0. So s, fitted over all tokens of raised
prompts, is the share of the raise that the rollout did not follow. It depends neither on how far a prompt is raised nor
on the size of the noise (bf16, stale weights): noise, which favours tokens that the rollout overrates, pulls s under 0.

A loop of several turns can pass its parameters on in the first and forget them in the others, whose tokens may be few.
The tokens after the first turn are therefore fitted by themselves too.
"""

from collections import deque
from collections.abc import Sequence

import torch
from tensordict import TensorDict

from erpo.tracker import on_grid
from erpo.tracker.schedules.base import TEMPERATURE_TOLERANCE
from erpo.trainer.config import ConfigError, TripwireConfig
from erpo.trainer.groups import Group

# Standard errors by which s must lie above the limit.
_CERTAINTY = 4.0
# Equally informative tokens from which on the standard error can be trusted: one very unlikely token can outweigh many.
_TOKENS = 30


class Tripwire:
    """Stops a run whose rollout does not follow the temperatures.

    Args:
        config: Over how many steps it looks, and from which share on it stops the run.
        base_temperature: Temperature of a prompt that is not raised.
    """

    def __init__(self, config: TripwireConfig, base_temperature: float) -> None:
        self._config = config
        self._base = float(on_grid(base_temperature))
        # Sums of the last steps: over all tokens, and over those after the first turn of their response.
        self._windows = {where: deque[torch.Tensor](maxlen=config.steps) for where in ("", " after their first turn")}

    def observe(self, data: TensorDict, groups: Sequence[Group]) -> dict[str, float]:
        """Look at one step.

        Args:
            data: ``old_log_probs``, ``rollout_log_probs``, ``entropy`` and ``response_mask``, nested (responses,
                tokens).
            groups: Group of each response, (responses,).

        Returns:
            The share of the raise that the rollout did not follow, over the last steps with raised prompts; nothing
            while there were none.

        Raises:
            ConfigError: It is above the limit, over all tokens or over those after the first turn.
        """
        raises = [group.temperature / self._base - 1 for group in groups]
        masks = [mask.bool() for mask in data["response_mask"].unbind()]
        shares = []
        for (where, window), chosen in zip(self._windows.items(), (masks, _later_turns(masks)), strict=True):
            sums = _sums(data, raises, chosen)
            if sums is not None:
                window.append(sums)
            if window:
                shares.append(self._share(where, torch.stack(list(window)).sum(0), len(window)))
        return {"erpo/raised/not_followed": shares[0]} if shares else {}

    def _share(self, where: str, sums: torch.Tensor, steps: int) -> float:
        share, error, tokens = _fit(sums)
        if steps == self._config.steps and tokens >= _TOKENS and share - _CERTAINTY * error > self._config.limit:
            raise ConfigError(
                f"The rollout did not follow the temperatures of raised prompts{where} ({share:.0%} of the raise is "
                f"missing in its log-probs over {steps} steps); let the agent loop pass on the sampling_params that it "
                "is given, or set erpo.tripwire.enable=false."
            )
        return share


def _later_turns(masks: list[torch.Tensor]) -> list[torch.Tensor]:
    """Of the tokens that the model wrote, those before which there are some that it did not write."""
    begins = [mask & ~torch.cat([mask.new_zeros(1), mask[:-1]]) for mask in masks]
    return [mask & (begin.cumsum(0) > 1) for mask, begin in zip(masks, begins, strict=True)]


def _sums(data: TensorDict, raises: list[float], masks: list[torch.Tensor]) -> torch.Tensor | None:
    """Sums over the chosen tokens of one step, which pooled steps add up; None without raised tokens.

    With d the difference of the log-probs, x = log p_train + H, r the raise T_q / T0 - 1 and z = r x: over raised
    tokens z^2, d z, x z, (d z)^2, d z^3 and z^4; over the others x^2 and d x.
    """
    chosen = torch.cat(masks)
    lengths = torch.tensor([len(mask) for mask in masks])
    r = torch.tensor(raises, dtype=torch.float64).repeat_interleave(lengths)[chosen]
    old, rollout, entropy = (
        torch.cat(data[name].unbind())[chosen].double() for name in ("old_log_probs", "rollout_log_probs", "entropy")
    )
    d, x = rollout - old, old + entropy
    # A cooled prompt tells as much as a raised one.
    moved = r.abs() > TEMPERATURE_TOLERANCE
    z = (r * x)[moved]
    if not bool((z != 0).any()):
        return None
    d_moved, x_moved = d[moved], x[moved]
    d, x = d[~moved], x[~moved]
    products = (z**2, d_moved * z, x_moved * z, (d_moved * z) ** 2, d_moved * z**3, z**4, x**2, d * x)
    return torch.stack([product.sum() for product in products])


def _fit(sums: torch.Tensor) -> tuple[float, float, float]:
    """s, its standard error (whatever the tokens' variances) and the effective number of tokens."""
    zz, dz, xz, ddzz, dzzz, zzzz, xx, dx = sums.tolist()
    # Weights that moved since the sampling can change the entropy of all prompts, which looks like a raise of all.
    drift = max(dx / xx, 0.0) if xx else 0.0
    raw = dz / zz
    variance = max(ddzz - 2 * raw * dzzz + raw**2 * zzzz, 0.0)
    return (dz - drift * xz) / zz, variance**0.5 / zz, zz**2 / zzzz
