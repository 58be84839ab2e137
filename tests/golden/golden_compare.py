# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of two golden runs, and what a difference points to."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pandas as pd


@dataclass(frozen=True)
class Quantity:
    """A kind of number, in the order in which a step computes them: the first that differs is nearest to the cause.

    Attributes:
        names: Regular expression of metric names, or of ``column of key`` for the group log.
        rtol: Relative tolerance.
        atol: Absolute tolerance.
        depends_on: What to look at when it differs.
    """

    names: str
    rtol: float
    atol: float
    depends_on: str


# Counts and temperatures are the same but for the last digits of a float32.
EXACT = (1e-6, 1e-9)
# Sums over tokens and parameters are taken in another order in every run, and by other instructions on another
# processor. Measured: losses and gradients differ by 3e-7 of their value at most, and probabilities by 1e-7 in a second
# run and by 6e-7 with torch and oneDNN held to SSE.
ROUNDED = (1e-5, 1e-6)
PROBABILITY = (0.0, 1e-5)

QUANTITIES = [
    Quantity(
        r"^(n|correct|accuracy|lengths|truncated) of |^erpo/generated/|^critic/(score|rewards)/|^response_length/"
        r"|^erpo/(raised|base)/(accuracy|frac_truncated|response_length_mean)",
        *EXACT,
        "the recorded rollouts, and how erpo/trainer/groups.py reads them",
    ),
    Quantity(r"^outcome of |^erpo/groups/", *EXACT, "the kinds of groups: erpo/tracker/outcome.py"),
    Quantity(
        r"^temperature of |^erpo/temperature/(mean|max|frac_raised)$",
        *EXACT,
        "what the tracker hands out: erpo/tracker/schedules/band.py (steps 1 to 4 have the recorded temperatures)",
    ),
    Quantity(
        r"^(revived|dropped) of |^erpo/(revived|residual|tracker)/|^erpo/temperature/prompts_",
        *EXACT,
        "the prompts' history: erpo/tracker/tracker.py, erpo/tracker/schedules/band.py",
    ),
    Quantity(
        r"probs_diff_(mean|max)|rollout_train_kl$|^rollout_corr/kl$",
        *PROBABILITY,
        "the temperature of each response in training: erpo/trainer/engine.py (or the weights)",
    ),
    Quantity(
        r"^entropy of |^actor/entropy$",
        *ROUNDED,
        "the temperature of each response in training: erpo/trainer/engine.py (or the weights)",
    ),
    Quantity(
        r"^erpo/signal/|^critic/advantages/",
        *ROUNDED,
        "the advantages: RA for all-correct groups, erpo/trainer/advantage.py, and verl's GRPO for mixed ones",
    ),
    Quantity(
        r"^actor/(pg_loss|loss|ppo_kl|pg_clipfrac)$", *ROUNDED, "the loss: the advantages, the log-probs, the weights"
    ),
    Quantity(r"^actor/(grad_norm|lr)$", *ROUNDED, "the gradient: the loss, the weights, the optimizer's settings"),
]


def is_compared(name: str) -> bool:
    """Whether the golden run is compared by a number of this name; times and memory are not."""
    return _place(name) < len(QUANTITIES)


def _place(name: str) -> int:
    return next((i for i, quantity in enumerate(QUANTITIES) if re.search(quantity.names, name)), len(QUANTITIES))


def numbers(groups: pd.DataFrame, metrics: dict[str, dict[str, float]]) -> dict[tuple[int, str], Any]:
    """All that is compared of a run: (step, name) -> value."""
    found: dict[tuple[int, str], Any] = {}
    for row in groups.to_dict("records"):
        step, key = int(row.pop("step")), str(row.pop("key"))
        found.update({(step, f"{name} of {key[:8]}"): value for name, value in row.items() if not pd.isna(value)})
    for step, values in metrics.items():
        found.update({(int(step), name): value for name, value in values.items() if is_compared(name)})
    return found


def differences(committed: dict[tuple[int, str], Any], now: dict[tuple[int, str], Any]) -> pd.DataFrame:
    """What lies outside its tolerance, the nearest to the cause first.

    Args:
        committed: :func:`numbers` of the recorded run.
        now: The same of another.

    Returns:
        One row per difference: step, quantity, committed, now, difference, tolerance, depends on.
    """
    rows = list(_differences(committed, now))
    names = ["step", "place", "quantity", "committed", "now", "difference", "tolerance", "depends on"]
    return pd.DataFrame(rows, columns=names).sort_values(["step", "place", "quantity"]).drop(columns="place")


def _differences(committed: dict[tuple[int, str], Any], now: dict[tuple[int, str], Any]) -> Iterator[tuple[Any, ...]]:
    for step, name in committed.keys() | now.keys():
        one, other = committed.get((step, name), "missing"), now.get((step, name), "missing")
        place = _place(name)
        quantity = QUANTITIES[place]
        if isinstance(one, str) or isinstance(other, str):
            if one != other:
                yield step, place, name, one, other, "", "equal", quantity.depends_on
            continue
        difference, tolerance = abs(float(other) - float(one)), quantity.atol + quantity.rtol * abs(float(one))
        if not difference <= tolerance:  # NaN differs from everything
            yield step, place, name, one, other, difference, tolerance, quantity.depends_on


def explain(different: pd.DataFrame, rows: int = 30) -> str:
    """The differences for a reader: where to look first, and a table of the first ``rows``."""
    first = different.iloc[0]
    return (
        f"{len(different)} numbers differ from the golden run, first {first['quantity']} in step {first['step']}.\n"
        f"It depends on {first['depends on']}.\n"
        "What stands below it may only follow from it. If the change is meant: python tests/golden/record.py\n\n"
        + different.head(rows).to_string(index=False, float_format="{:.6g}".format)
    )
