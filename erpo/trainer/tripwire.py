# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tripwire: were raised prompts sampled at their temperatures?

An agent loop that builds sampling parameters of its own samples every prompt at one temperature T0, and training at T_q
is then silently off-policy. To first order in T_q / T0 - 1, for a token y sampled at T0 and scored at T_q,

    log p_rollout(y) - log p_train(y) = s (T_q / T0 - 1) (log p_train(y) + H),   s = 1,

H the entropy of p_train; sampled at T_q, the left side is noise, and s = 0. So s, fitted over all tokens of raised
prompts, is the share of the raise that the rollout did not follow. It depends neither on how far a prompt is raised nor
on the size of the noise (bf16, stale weights): noise, which favours tokens that the rollout overrates, pulls s under 0.
"""

from collections import deque
from collections.abc import Sequence

import torch
from tensordict import TensorDict

from erpo.tracker import on_grid
from erpo.trainer.config import ConfigError, TripwireConfig
from erpo.trainer.groups import Group
from erpo.trainer.metrics import RAISED_MARGIN

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
        self._window: deque[torch.Tensor] = deque(maxlen=config.steps)

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
            ConfigError: It is above the limit.
        """
        sums = _sums(data, [group.temperature / self._base - 1 for group in groups])
        if sums is not None:
            self._window.append(sums)
        if not self._window:
            return {}
        share, error, tokens = _fit(torch.stack(list(self._window)).sum(0))
        seen = len(self._window) == self._config.steps and tokens >= _TOKENS
        if seen and share - _CERTAINTY * error > self._config.limit:
            raise ConfigError(
                f"The rollout did not follow the temperatures of raised prompts ({share:.0%} of the raise is missing "
                f"in its log-probs over {self._config.steps} steps); let the agent loop pass on the sampling_params "
                "that it is given, or set erpo.tripwire.enable=false."
            )
        return {"erpo/raised/not_followed": share}


def _sums(data: TensorDict, raises: list[float]) -> torch.Tensor | None:
    """Sums over the tokens of one step, which pooled steps add up; None without raised tokens.

    With d the difference of the log-probs, x = log p_train + H, r the raise T_q / T0 - 1 and z = r x: over raised
    tokens z^2, d z, x z, (d z)^2, d z^3 and z^4; over the others x^2 and d x.
    """
    masks = data["response_mask"].unbind()
    chosen = torch.cat(masks).bool()
    lengths = torch.tensor([len(mask) for mask in masks])
    r = torch.tensor(raises, dtype=torch.float64).repeat_interleave(lengths)[chosen]
    old, rollout, entropy = (
        torch.cat(data[name].unbind())[chosen].double() for name in ("old_log_probs", "rollout_log_probs", "entropy")
    )
    d, x = rollout - old, old + entropy
    # A cooled prompt tells as much as a raised one.
    moved = r.abs() > RAISED_MARGIN
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
