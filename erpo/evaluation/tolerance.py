# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Which temperatures a model stands with all prompts, and the temperatures that this suggests for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from erpo.evaluation.residual import MAX_TRUNCATION_RISE, Row, as_percent

# The rule of `suggest_for_all`; all constants are choices of ours.
# Share of the accuracy at T_base that is left at a tolerated temperature.
KEPT_ACCURACY = 2 / 3
# Rise of the share of all-wrong groups that is tolerated: such groups teach nothing either.
MAX_ALL_WRONG_RISE = 0.05
# With fewer prompts the shares are uncertain by more than these limits.
MIN_PROMPTS = 60
# Hotter temperatures without which nothing can be said of where tolerance ends.
MIN_HOTTER = 2


@dataclass(frozen=True)
class SuggestionForAll:
    """Temperatures for all prompts alike.

    Attributes:
        t_base: One temperature for the whole run; None if the measurement cannot tell.
        rise_to: Where a rise from `t_base` ends; None likewise, or where there is nothing to rise to.
        reasons: Why, one sentence for each.
    """

    t_base: float | None
    rise_to: float | None
    reasons: tuple[str, ...]


def suggest_for_all(rows: Sequence[Row], prompts: int) -> SuggestionForAll:
    """Choose one temperature for all prompts, and the end of a rise.

    A temperature is tolerated if at it, and at every cooler measured one, the mean accuracy is at least
    :data:`KEPT_ACCURACY` of that at T_base, all-wrong groups are no more than :data:`MAX_ALL_WRONG_RISE` more frequent
    and responses no more than :data:`MAX_TRUNCATION_RISE` more often cut; at T_base the means over both visits count.
    The rise ends at the hottest tolerated one. The temperature for the whole run is the tolerated one with the most
    mixed groups, if the lower end of their interval lies above the share at either visit at T_base, else T_base.

    Args:
        rows: Of :func:`erpo.evaluation.residual.residual_rows`.
        prompts: Prompts that were measured.
    """
    first, again, hotter = rows[0], rows[1], rows[2:]
    accuracy = (first.accuracy.value + again.accuracy.value) / 2
    all_wrong = (first.all_wrong.value + again.all_wrong.value) / 2
    truncated = (first.truncated + again.truncated) / 2
    missing = ""
    if prompts < MIN_PROMPTS:
        missing = f"{prompts} prompts were measured; measure {MIN_PROMPTS} or more"
    elif len(hotter) < MIN_HOTTER:
        missing = f"{len(hotter)} temperature above {first.temperature:g} was measured; measure {MIN_HOTTER} or more"
    elif accuracy == 0:
        missing = f"no response at T = {first.temperature:g} is correct; take easier prompts"
    if missing:
        return SuggestionForAll(None, None, (f"The measurement cannot tell: {missing}.",))
    tolerated, stop = [first], ""
    for row in hotter:
        stop = _not_tolerated(row, accuracy, all_wrong, truncated)
        if stop:
            break
        tolerated.append(row)
    best = max(tolerated, key=lambda row: row.mixed.value)
    of_base = max(first.mixed.value, again.mixed.value)
    if best is not first and best.mixed.low > of_base:
        why = (
            f"T_hot: of the tolerated temperatures {best.temperature:g} has the most mixed groups, "
            f"{as_percent(best.mixed)} against {of_base:.0%} at {first.temperature:g}, and keeps "
            f"{best.accuracy.value:.0%} of {accuracy:.0%} accuracy."
        )
    else:
        others = "" if best is first else f"; {best.temperature:g} has {as_percent(best.mixed)}"
        why = (
            f"T_hot: no tolerated temperature has clearly more mixed groups than {first.temperature:g} "
            f"({as_percent(first.mixed)}){others}."
        )
        best = first
    last = tolerated[-1]
    end = stop or f"nothing above {last.temperature:g} was measured, and it may be too low"
    if last is best:
        rise = f"Rise: none, for {last.temperature:g} is the hottest tolerated temperature; {end}."
    else:
        rise = f"Rise: it ends at {last.temperature:g}, the hottest tolerated temperature; {end}."
    return SuggestionForAll(best.temperature, None if last is best else last.temperature, (why, rise))


def _not_tolerated(row: Row, accuracy: float, all_wrong: float, truncated: float) -> str:
    """Why a temperature is not tolerated; empty if it is."""
    where = f"at {row.temperature:g}"
    if row.accuracy.value < KEPT_ACCURACY * accuracy:
        return f"{where} the accuracy falls from {accuracy:.0%} to {row.accuracy.value:.0%}, to less than two thirds"
    if row.all_wrong.value - all_wrong > MAX_ALL_WRONG_RISE:
        return f"{where} all-wrong groups rise from {all_wrong:.0%} to {row.all_wrong.value:.0%}"
    if row.truncated - truncated > MAX_TRUNCATION_RISE:
        return f"{where} cut responses rise from {truncated:.0%} to {row.truncated:.0%}"
    return ""
