# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Several runs on the same axes: every quantity over training steps and over generated tokens."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from erpo.report.data import Run, Steps
from erpo.report.figures import Panel, canvas, number, over_steps, over_tokens, percent

# Okabe and Ito's colours without the yellow, which is lost on paper; markers and dashes tell the runs apart as well.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = "o^sDvPX"
_DASHES = ("-", "--", ":", "-.")


def compare(runs: Sequence[Run], steps: Steps) -> list[Panel]:
    """One panel for every quantity that a run has; runs without a finished step are left out."""
    quantities = {
        "held-out accuracy": [run.held_out_accuracy() for run in runs],
        "share of all-correct groups": [_share(run, steps, "all_correct") for run in runs],
        "share of mixed groups": [_share(run, steps, "mixed") for run in runs],
        "mean sampling temperature": [
            run.groups.groupby(steps.last_of(run.groups["step"], run.last_step))["temperature"].mean() for run in runs
        ],
        "share of responses with gradient": [
            steps.combine(run.metric("erpo/signal/frac_responses_with_gradient"), run.last_step) for run in runs
        ],
        "share of responses with gradient, from mixed groups": [
            steps.combine(run.metric("erpo/signal/frac_responses_with_gradient_mixed"), run.last_step) for run in runs
        ],
        "entropy (nats)": [steps.combine(run.metric("actor/entropy"), run.last_step) for run in runs],
    }
    return [_panel(name, runs, values) for name, values in quantities.items() if any(len(series) for series in values)]


def _share(run: Run, steps: Steps, kind: str) -> pd.Series:
    return (run.groups["outcome"] == kind).groupby(steps.last_of(run.groups["step"], run.last_step)).mean()


def _panel(name: str, runs: Sequence[Run], values: Sequence[pd.Series]) -> Panel:
    figure, (by_step, by_tokens) = canvas(1, 2, height=3.2)
    show = percent if name.startswith("share") else lambda value: number(value, 3)
    tables, ends = [], []
    for i, (run, series) in enumerate(zip(runs, values, strict=True)):
        if not len(series):
            continue
        tokens = run.tokens_at(pd.Series(series.index, index=series.index))
        look: dict[str, Any] = {
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "linestyle": _DASHES[i % len(_DASHES)],
            "markersize": 3.5,
        }
        by_step.plot(series.index, series, label=run.name, **look)
        by_tokens.plot(tokens, series, **look)
        tables.append(
            pd.DataFrame(
                {
                    "run": run.name,
                    "up to step": [str(step) for step in series.index],
                    "generated tokens": [number(value, 0) for value in tokens],
                    name: [show(value) for value in series],
                }
            )
        )
        at_last = f"{show(series.iloc[-1])} at last" if len(series) > 1 else "not measured again"
        ends.append(f"{run.name} {show(series.iloc[0])} at first, {at_last}")
    over_steps(by_step)
    by_step.set_ylabel(name.replace(", ", ",\n"))
    over_tokens(by_tokens)
    by_tokens.sharey(by_step)
    by_tokens.tick_params(labelleft=False)
    if name.startswith("share"):
        by_step.set_ylim(-0.03, 1.03)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    return Panel(None, figure, pd.concat(tables), f"{name[0].upper()}{name[1:]}: {'; '.join(ends)}.")
