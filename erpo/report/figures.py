# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of one run's groups: kinds, temperatures, revivals, and the flow of prompts between kinds.

Every function takes a run and the points of its curves and returns a :class:`Panel`: a figure, the table of the numbers
in it, and a sentence that says what it shows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from erpo.report.data import KINDS, Run, Steps
from erpo.tracker import is_raised

# Okabe and Ito's colours, told apart by colour-blind readers; they also differ in lightness, for print.
COLOURS = {"all_correct": "#E69F00", "mixed": "#0072B2", "all_wrong": "#999999", "absent": "#EDEDED"}
LABELS = {"all_correct": "all-correct", "mixed": "mixed", "all_wrong": "all-wrong", "absent": "not sampled"}
BASE_COLOUR, RAISED_COLOUR = "#0072B2", "#D55E00"
# Epochs that are drawn: more ribbons are unreadable.
_EPOCHS = 8


@dataclass
class Panel:
    """One figure of a section.

    Attributes:
        run: Name of the run, None if the figure shows all of them.
        figure: The picture.
        table: Its numbers, ready to be read.
        text: One sentence with the key numbers, for readers who do not see the picture.
    """

    run: str | None
    figure: Figure
    table: pd.DataFrame
    text: str


def percent(value: float) -> str:
    """A share in words."""
    return "-" if pd.isna(value) else f"{value:.1%}"


def number(value: float, digits: int = 2) -> str:
    """A number in words."""
    return "-" if pd.isna(value) else f"{value:,.{digits}f}"


def over_tokens(axis: Axes) -> None:
    """Label an axis of generated tokens; six digits at every tick would run into each other."""
    axis.set_xlabel("generated tokens")
    axis.ticklabel_format(axis="x", style="sci", scilimits=(0, 3), useMathText=True)


def canvas(rows: int = 1, columns: int = 1, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    """A figure as wide as a phone can show with readable letters, and its axes."""
    # A Figure by itself: pyplot would keep every figure open, and ask for a display.
    figure = Figure(figsize=(5.2, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, list(axes.flat)


def over_steps(axis: Axes) -> None:
    """Training steps on the x-axis."""
    axis.set_xlabel("training step")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))


def share_axes(panels: Sequence[Panel]) -> None:
    """Give the figures of several runs the same axes, so that they can be compared side by side."""
    shapes = {tuple(axis.get_title() + axis.get_ylabel() for axis in panel.figure.axes) for panel in panels}
    if len(shapes) != 1:
        return  # The runs have logged different things.
    for together in zip(*(panel.figure.axes for panel in panels), strict=True):
        lows, highs = np.array([(axis.get_xlim(), axis.get_ylim()) for axis in together]).transpose(2, 1, 0)
        for axis in together:
            axis.set_xlim(lows[0].min(), highs[0].max())
            axis.set_ylim(lows[1].min(), highs[1].max())


def outcomes(run: Run, steps: Steps) -> Panel:
    """Share of all-correct, mixed and all-wrong groups over steps."""
    last = steps.last_of(run.groups["step"], run.last_step)
    shares = pd.crosstab(last, run.groups["outcome"], normalize="index").reindex(columns=KINDS, fill_value=0.0)
    figure, (axis,) = canvas()
    axis.grid(visible=False)
    edges = np.append((shares.index.to_numpy() - 1) // steps.width * steps.width, run.last_step) + 0.5
    bottom = np.zeros(len(shares))
    for kind in KINDS:
        top = bottom + shares[kind].to_numpy()
        axis.stairs(top, edges, baseline=bottom, fill=True, color=COLOURS[kind], label=LABELS[kind])
        bottom = top
    over_steps(axis)
    axis.set(ylabel="share of groups", ylim=(0, 1), xlim=(edges[0], edges[-1]))
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    table = pd.DataFrame({"steps": [steps.label(step) for step in shares.index]})
    for kind in KINDS:
        table[LABELS[kind]] = [percent(value) for value in shares[kind]]
    table["groups"] = [str(count) for count in last.value_counts().sort_index()]
    first, final = shares.iloc[0], shares.iloc[-1]
    text = "; ".join(f"{LABELS[k]} {percent(first[k])} at first, {percent(final[k])} at last" for k in KINDS)
    return Panel(run.name, figure, table, f"Share of groups by kind: {text}.")


def temperature_edges(runs: Sequence[Run]) -> NDArray[np.float64]:
    """Edges of equal temperature bins that hold every temperature and cap of the runs, with room above the cap."""
    values = np.unique(np.concatenate([run.groups["temperature"].to_numpy(float) for run in runs if len(run.groups)]))
    low = values[0]
    high = max([values[-1], *(run.cap for run in runs if run.cap is not None)])
    # The schedule's own steps where it has few; a dozen bins where temperatures are continuous.
    height = max(np.diff(values).min() if len(values) > 1 else 0.1, (high - low) / 12, 0.02)
    count = int(np.ceil((high - low) / height + 0.5 - 1e-6)) + 1
    return low - height / 2 + height * np.arange(count + 1)


def temperatures(run: Run, steps: Steps, edges: NDArray[np.float64]) -> Panel:
    """Heat map: share of each point's groups by sampling temperature, and the cap."""
    last = steps.last_of(run.groups["step"], run.last_step)
    bins = np.digitize(run.groups["temperature"], edges) - 1
    shares = pd.crosstab(last, bins, normalize="index").reindex(columns=range(len(edges) - 1), fill_value=0.0)
    step_edges = np.append((shares.index.to_numpy() - 1) // steps.width * steps.width, run.last_step) + 0.5
    figure, (axis,) = canvas()
    axis.grid(visible=False)
    image = axis.pcolormesh(
        step_edges, edges, np.ma.masked_equal(shares.to_numpy().T, 0), cmap="cividis_r", vmin=0, vmax=1
    )
    means = run.groups.groupby(last)["temperature"].mean()
    middles = (step_edges[:-1] + step_edges[1:]) / 2
    axis.plot(middles, means, color="#D55E00", marker="o", markersize=4, label="mean")
    if run.cap is not None:
        axis.axhline(run.cap, color="black", linestyle="--", label=f"cap {run.cap:g}")
    over_steps(axis)
    axis.set(ylabel="sampling temperature", ylim=(edges[0], edges[-1]))
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.colorbar(image, ax=axis, label="share of groups (white: none)")
    used = [i for i in shares.columns if shares[i].any()]
    table = pd.DataFrame({"steps": [steps.label(step) for step in shares.index]})
    table["mean T"] = [number(value, 3) for value in means]
    for i in used:
        inside = run.groups["temperature"][bins == i]
        name = f"{inside.min():g}" if inside.nunique() == 1 else f"{inside.min():.2f} to {inside.max():.2f}"
        table[f"T {name}"] = [percent(value) for value in shares[i]]
    cap = "no cap" if run.cap is None else f"the cap is {run.cap:g}"
    text = f"Mean sampling temperature {means.iloc[0]:.3f} at first, {means.iloc[-1]:.3f} at last; {cap}."
    return Panel(run.name, figure, table, text + _at_cap(run))


def _at_cap(run: Run) -> str:
    if run.tracker is None or "temperature" not in run.tracker:
        return ""
    now = run.tracker["temperature"]
    capped = f", {int((now >= run.cap - 1e-4).sum())} of them at the cap" if run.cap is not None else ""
    return (
        f" In the tracker state of step {run.tracker_step}, the next temperature of {len(now)} prompts has the mean "
        f"{now.mean():.3f}; {int(is_raised(now, run.base).sum())} are raised{capped}."
    )


def revivals(run: Run, steps: Steps, edges: NDArray[np.float64]) -> Panel:
    """Prompts that were all-correct at their last visit: how many are mixed now, over steps and by temperature."""
    groups = run.groups
    after = groups[groups["previous"] == "all_correct"]
    last = steps.last_of(groups["step"], run.last_step)
    counts = groups["revived"].groupby(last).sum()
    bins = np.digitize(after["temperature"], edges) - 1
    figure, (over, by) = canvas(1, 2, height=3.0)
    over.bar(counts.index - (steps.width - 1) / 2, counts, width=steps.width * 0.85, color=COLOURS["mixed"])
    over_steps(over)
    over.set(ylabel="revived groups")
    over.yaxis.set_major_locator(MaxNLocator(integer=True))
    rows = []
    for step, count in counts.items():
        of = int((last[after.index] == step).sum())
        rows.append({"what": f"steps {steps.label(step)}", "revived": int(count), "of": of})
    for i in np.unique(bins):
        here = after[bins == i]
        share, middle = here["revived"].mean(), (edges[i] + edges[i + 1]) / 2
        by.bar(middle, share, width=0.85 * (edges[1] - edges[0]), color=COLOURS["mixed"])
        by.annotate(str(len(here)), (middle, share), ha="center", va="bottom", fontsize=8)
        rows.append({"what": f"T {middle:.2f}", "revived": int(here["revived"].sum()), "of": len(here)})
    by.set(xlabel="sampling temperature", ylabel="share revived", ylim=(0, 1.08), xlim=(edges[0], edges[-1]))
    table = pd.DataFrame(rows, columns=["what", "revived", "of"])
    table["share"] = [percent(share) for share in table["revived"] / table["of"].replace(0, np.nan)]
    table = table.rename(columns={"what": "steps or temperature", "of": "of groups after all-correct"})
    prompts = groups.loc[groups["revived"], "key"].nunique()
    text = (
        f"{int(groups['revived'].sum())} of {len(after)} groups whose prompt was all-correct before were mixed again "
        f"({prompts} prompts)."
    )
    return Panel(run.name, figure, table, text)


def flow(run: Run) -> Panel:
    """How many prompts went from one kind to another between epochs; a prompt's kind is that of its last group."""
    kinds = run.groups.groupby(["key", "epoch"])["outcome"].last().unstack("epoch").fillna("absent")
    chosen = np.unique(np.linspace(0, kinds.shape[1] - 1, min(kinds.shape[1], _EPOCHS)).round().astype(int))
    kinds = kinds.iloc[:, chosen]
    epochs = list(kinds.columns)
    order = [*KINDS, "absent"]
    figure, (axis,) = canvas(height=3.6)
    axis.grid(visible=False)
    for i, epoch in enumerate(epochs):
        bottom = 0
        for kind in order:
            count = int((kinds[epoch] == kind).sum())
            axis.bar(i, count, 0.16, bottom=bottom, color=COLOURS[kind], edgecolor="white", linewidth=0.5, zorder=2)
            bottom += count
    moves = {}
    for i, (before, after) in enumerate(pairwise(epochs)):
        counts = pd.crosstab(kinds[before], kinds[after]).reindex(index=order, columns=order, fill_value=0)
        moves[f"{before} to {after}"] = counts
        _ribbons(axis, i, counts)
    for kind in order:
        axis.bar(0, 0, color=COLOURS[kind], label=LABELS[kind])
    axis.set(xticks=range(len(epochs)), xticklabels=epochs, xlabel="epoch", ylabel="prompts", ylim=(0, len(kinds)))
    axis.set_xlim(-0.15, max(len(epochs) - 0.85, 0.15))
    figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=9, columnspacing=1, handlelength=1.2)
    return Panel(run.name, figure, _moves_table(moves, order), _flow_text(kinds, moves))


def _ribbons(axis: Axes, i: int, counts: pd.DataFrame) -> None:
    """The prompts between bar i and bar i + 1: one ribbon for every pair of kinds, in the colour of where they were."""
    x = np.linspace(0, 1, 30)
    ease = x * x * (3 - 2 * x)
    left = dict(zip(counts.index, np.cumsum([0, *counts.sum(axis=1)]), strict=False))
    right = dict(zip(counts.columns, np.cumsum([0, *counts.sum(axis=0)]), strict=False))
    for before in counts.index:
        for after in counts.columns:
            count = counts.loc[before, after]
            if count:
                low = left[before] + (right[after] - left[before]) * ease
                axis.fill_between(
                    i + 0.08 + 0.84 * x, low, low + count, color=COLOURS[before], alpha=0.45, linewidth=0, zorder=1
                )
                left[before] += count
                right[after] += count


def _moves_table(moves: dict[str, pd.DataFrame], order: Sequence[str]) -> pd.DataFrame:
    pairs = [(a, b) for a in order for b in order if any(counts.loc[a, b] for counts in moves.values())]
    table = pd.DataFrame({"prompts that went from": [f"{LABELS[a]} to {LABELS[b]}" for a, b in pairs]})
    for name, counts in moves.items():
        table[f"epoch {name}"] = [str(counts.loc[pair]) for pair in pairs]
    return table


def _flow_text(kinds: pd.DataFrame, moves: dict[str, pd.DataFrame]) -> str:
    if not moves:
        return f"{len(kinds)} prompts; there is no second epoch yet."
    name, counts = list(moves.items())[-1]
    was = int(counts.loc["all_correct"].sum())
    return (
        f"{len(kinds)} prompts. Epoch {name}: of {was} all-correct prompts {counts.loc['all_correct', 'mixed']} became "
        f"mixed and {counts.loc['all_correct', 'all_correct']} stayed; {counts.loc['mixed', 'all_correct']} mixed ones "
        "became all-correct."
    )
