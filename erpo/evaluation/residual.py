# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The residual share by temperature (the paper's Table 1), and what it suggests for dT and T_max."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from erpo.evaluation.estimators import Estimate, bootstrap, wilson
from erpo.tracker import Outcome, classify
from erpo.trainer.config import AccuracyConfig

DEFAULT_ACCURACY = AccuracyConfig()

# The rule of `suggest`. A raised group should still be mostly right: with 8 responses at 0.75, two are wrong.
MIN_ACCURACY = 0.75
# Truncation that a raised temperature may add: a response that does not end is noise, not exploration.
MAX_TRUNCATION_RISE = 0.05
# Visits in which a prompt that stays all-correct reaches T_max.
VISITS_TO_CAP = 4
# Under so many all-correct prompts, a share among them says nothing.
MIN_PROMPTS = 20


@dataclass(frozen=True)
class Row:
    """Groups at one temperature.

    "Residual prompts" are those that were all-correct at the first visit at T_base.

    Attributes:
        temperature: Sampling temperature.
        second: Whether this is the second visit at T_base: the control, for it shows what chance alone changes.
        all_correct: Share of all-correct groups.
        mixed: Share of mixed groups.
        all_wrong: Share of all-wrong groups.
        accuracy: Mean accuracy of all responses.
        revived: Share of the residual prompts whose group is mixed here; None if there are none or at the first visit.
        residual_accuracy: Share of correct responses to the residual prompts; likewise.
        residual_truncated: Share of responses to them that were cut at the length limit; likewise.
        truncated: Share of all responses that were cut.
        length: Mean response length in tokens.
        thirds: Share of correct responses to the easiest, middle and hardest third of the prompts, by their accuracy at
            the first visit; None at that visit, where luck chose the thirds.
        hard_all_wrong: Share of all-wrong groups in the hardest third; likewise.
        tail_mass: Probability outside the top 20 tokens at this temperature, a mean over the tokens of some responses;
            None where it was not measured.
    """

    temperature: float
    second: bool
    all_correct: Estimate
    mixed: Estimate
    all_wrong: Estimate
    accuracy: Estimate
    revived: Estimate | None
    residual_accuracy: Estimate | None
    residual_truncated: float | None
    truncated: float
    length: float
    thirds: tuple[Estimate, Estimate, Estimate] | None = None
    hard_all_wrong: Estimate | None = None
    tail_mass: float | None = None


@dataclass(frozen=True)
class Suggestion:
    """What the measurement suggests.

    Attributes:
        t_max: T_max; None if the data do not support raising.
        dt: dT; likewise.
        reason: Why, in sentences.
    """

    t_max: float | None
    dt: float | None
    reason: str


def part_name(temperature: float, second: bool = False) -> str:
    """Name of the samples of one visit."""
    return f"T={temperature:g}" + ("-again" if second else "")


def group_table(samples: pd.DataFrame, accuracy: AccuracyConfig) -> pd.DataFrame:
    """Groups of a part, one row per prompt: outcome, share of correct responses, share of cut ones; indexed by key.

    A response that could not be judged counts as wrong: with an accuracy of 0, or of the worst response below it.
    """
    lowest = min(0.0, float(samples["accuracy"].min(skipna=True))) if samples["accuracy"].notna().any() else 0.0
    groups = samples.assign(accuracy=samples["accuracy"].fillna(lowest)).groupby("key", sort=False)
    return pd.DataFrame(
        {
            "outcome": [
                classify(
                    values.tolist(),
                    len(values),
                    threshold=accuracy.threshold,
                    tolerance=accuracy.tolerance,
                    prompt=str(key),
                )
                for key, values in groups["accuracy"]
            ],
            "correct": groups["correct"].mean().to_numpy(),
            "truncated": groups["truncated"].mean().to_numpy(),
        },
        index=list(groups.groups),
    )


def residual_rows(
    samples: pd.DataFrame, temperatures: list[float], seed: int, accuracy: AccuracyConfig = DEFAULT_ACCURACY
) -> list[Row]:
    """Measure the groups at each temperature.

    Args:
        samples: Samples of the parts named by :func:`part_name`, the second visit at T_base among them.
        temperatures: The lowest is T_base.
        seed: Seed of the bootstrap.
        accuracy: When a response is correct.
    """
    ordered = sorted(temperatures)
    by_part = dict(tuple(samples.groupby("part", sort=False)))
    base = group_table(by_part[part_name(ordered[0])], accuracy)
    residual = base.index[base["outcome"] == Outcome.ALL_CORRECT]
    easiest_first = base["correct"].sort_values(ascending=False, kind="stable").index
    thirds = [pd.Index(third) for third in np.array_split(easiest_first, 3)]
    visits = [(ordered[0], False), (ordered[0], True), *((temperature, False) for temperature in ordered[1:])]
    return [
        _row(
            by_part[part_name(*visit)],
            visit,
            residual if number else residual[:0],
            thirds if number else [],
            seed,
            accuracy,
        )
        for number, visit in enumerate(visits)
    ]


def _row(
    part: pd.DataFrame,
    visit: tuple[float, bool],
    residual: pd.Index,
    thirds: list[pd.Index],
    seed: int,
    accuracy: AccuracyConfig,
) -> Row:
    groups = group_table(part, accuracy)
    again = groups.loc[residual]
    enough = bool(thirds) and len(thirds[-1]) > 0
    hardest = groups.loc[thirds[-1], "outcome"] if enough else groups["outcome"].iloc[:0]
    shares = {outcome: wilson(int((groups["outcome"] == outcome).sum()), len(groups)) for outcome in Outcome}
    some = len(again) > 0
    return Row(
        temperature=visit[0],
        second=visit[1],
        all_correct=shares[Outcome.ALL_CORRECT],
        mixed=shares[Outcome.MIXED],
        all_wrong=shares[Outcome.ALL_WRONG],
        accuracy=bootstrap(groups["correct"].to_numpy(dtype=np.float64), seed),
        revived=wilson(int((again["outcome"] == Outcome.MIXED).sum()), len(again)) if some else None,
        residual_accuracy=bootstrap(again["correct"].to_numpy(dtype=np.float64), seed) if some else None,
        residual_truncated=float(again["truncated"].mean()) if some else None,
        truncated=float(part["truncated"].mean()),
        length=float(part["length"].mean()),
        thirds=_of_thirds(groups["correct"], thirds, seed) if enough else None,
        hard_all_wrong=wilson(int((hardest == Outcome.ALL_WRONG).sum()), len(hardest)) if enough else None,
        tail_mass=_tail_mass(part),
    )


def _of_thirds(correct: pd.Series, thirds: list[pd.Index], seed: int) -> tuple[Estimate, Estimate, Estimate]:
    easy, middle, hard = (bootstrap(correct.loc[third].to_numpy(dtype=np.float64), seed) for third in thirds)
    return easy, middle, hard


def _tail_mass(part: pd.DataFrame) -> float | None:
    measured = part.dropna(subset=["tail_mass"]) if "tail_mass" in part else part.iloc[:0]
    if not measured["length"].sum():
        return None
    return float((measured["tail_mass"] * measured["length"]).sum() / measured["length"].sum())


def suggest(rows: list[Row], prompts: int) -> Suggestion:
    """Choose T_max and dT for the linear schedule.

    T_max is the highest measured temperature up to which, at every measured one, the residual prompts keep an accuracy
    of at least :data:`MIN_ACCURACY` and are cut at the length limit no more than :data:`MAX_TRUNCATION_RISE` above the
    second visit at T_base. It must revive more of them than that second visit, beyond its interval. dT is such that a
    prompt that stays all-correct reaches T_max in :data:`VISITS_TO_CAP` visits.

    Args:
        rows: Of :func:`residual_rows`.
        prompts: Prompts that were measured.
    """
    base, control, hotter = rows[0], rows[1], rows[2:]
    residual = round(base.all_correct.value * prompts)
    share = as_percent(base.all_correct)
    found = f"At T = {base.temperature:g}, {residual} of {prompts} prompts are all-correct ({share})."
    if residual < MIN_PROMPTS:
        return Suggestion(
            None,
            None,
            f"{found} That is fewer than {MIN_PROMPTS}: too few to say what a higher temperature does to them. Measure "
            "more prompts; if the share stays small, there is little for ERPO to revive in these data yet.",
        )
    assert control.revived is not None and control.residual_truncated is not None
    usable: list[Row] = []
    stop = ""
    for row in hotter:
        stop = _broken(row, control.residual_truncated)
        if stop:
            break
        usable.append(row)
    if not usable:
        return Suggestion(
            None,
            None,
            f"{found} The data do not support raising: already {stop}. Measure temperatures between "
            f"{base.temperature:g} and {hotter[0].temperature:g}.",
        )
    best = usable[-1]
    assert best.revived is not None and best.residual_accuracy is not None
    why = (
        f"{found} At T = {best.temperature:g}, {as_percent(best.revived)} of them are mixed; by chance alone, at a "
        f"second visit at T = {base.temperature:g}, {as_percent(control.revived)} are. Of their responses at "
        f"T = {best.temperature:g}, {best.residual_accuracy.value:.0%} are still correct."
    )
    limit = f" Above it, {stop}." if stop else f" Nothing above {best.temperature:g} was measured; it may be too low."
    if best.revived.low <= control.revived.value:
        between = f"temperatures between {best.temperature:g} and {hotter[len(usable)].temperature:g}" if stop else ""
        return Suggestion(
            None,
            None,
            f"{why}{limit} That is no clear gain over chance: the data do not support raising to {best.temperature:g}. "
            f"Measure more prompts, or {between or 'higher temperatures'}.",
        )
    dt = math.ceil(1000 * (best.temperature - base.temperature) / VISITS_TO_CAP - 1e-9) / 1000
    return Suggestion(
        best.temperature, dt, f"{why}{limit} dT reaches T_max in {VISITS_TO_CAP} all-correct visits in a row."
    )


def _broken(row: Row, base_truncated: float) -> str:
    """Why a temperature is too high; empty if it is not."""
    assert row.residual_accuracy is not None and row.residual_truncated is not None
    where = f"at T = {row.temperature:g}"
    if row.residual_accuracy.value < MIN_ACCURACY:
        return (
            f"{where} only {row.residual_accuracy.value:.0%} of the responses to these prompts are correct "
            f"(the rule asks for {MIN_ACCURACY:.0%})"
        )
    if row.residual_truncated - base_truncated > MAX_TRUNCATION_RISE:
        return (
            f"{where} {row.residual_truncated:.0%} of the responses to these prompts are cut at the length limit, "
            f"{base_truncated:.0%} at T_base (the rule allows {MAX_TRUNCATION_RISE:.0%} more)"
        )
    return ""


def as_percent(estimate: Estimate) -> str:
    """An estimate in a sentence."""
    return f"{estimate.value:.0%} [{estimate.low:.0%}, {estimate.high:.0%}]"
