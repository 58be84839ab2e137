# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Figures of what is learned from the groups: raised against base groups, log-prob agreement, signal per token."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from numpy.typing import NDArray

from erpo.report.data import Run, Steps
from erpo.report.figures import (
    BASE_COLOUR,
    COLOURS,
    RAISED_COLOUR,
    Panel,
    canvas,
    number,
    over_steps,
    over_tokens,
    percent,
)

# Columns of the group log that a run may lack: the trainer's part, missing for groups that it dropped.
ENTROPY, DIFF_MEAN, DIFF_MAX = "entropy", "probs_diff_mean", "probs_diff_max"


def raised_and_base(run: Run, steps: Steps) -> Panel:
    """Accuracy, entropy, response length and truncation of raised and of base groups."""
    groups = run.groups.assign(
        last=steps.last_of(run.groups["step"], run.last_step),
        responses=run.groups["lengths"].map(len),
        tokens=run.groups["lengths"].map(sum),
    )
    sums = groups.groupby(["raised", "last"])[["correct", "truncated", "tokens", "responses"]].sum()
    curves: dict[str, dict[str, pd.Series]] = {
        "accuracy": _of_kinds(sums["correct"] / sums["responses"]),
        "entropy (nats)": _entropy(run, steps, groups),
        "response length (tokens)": _of_kinds(sums["tokens"] / sums["responses"]),
        "share truncated": _of_kinds(sums["truncated"] / sums["responses"]),
    }
    figure, axes = canvas(2, 2, height=4.8)
    points = sorted(groups["last"].unique())
    table = pd.DataFrame({"steps": [steps.label(step) for step in points]})
    looks: dict[str, dict[str, Any]] = {
        "base": {"color": BASE_COLOUR, "marker": "o"},
        "raised": {"color": RAISED_COLOUR, "marker": "^"},
        "all": {"color": "black", "marker": "s"},
    }
    labelled: dict[str, Artist] = {}
    for axis, (title, kinds) in zip(axes, curves.items(), strict=True):
        axis.set_title(title, fontsize=10)
        for kind, values in kinds.items():
            (line,) = axis.plot(values.index, values, markersize=3.5, linewidth=1.2, **looks[kind])
            labelled.setdefault(f"{kind} groups", line)
            show = percent if title in ("accuracy", "share truncated") else number
            table[f"{title}, {kind}"] = [show(value) for value in values.reindex(points)]
        if title == "accuracy":
            axis.set_ylim(-0.03, 1.03)
        else:
            # Truncation is rare in a healthy run, but a few per mille are no mountain.
            axis.set_ylim(0, max([0.05, *(1.05 * values.max() for values in kinds.values())]))
    for axis in axes:
        over_steps(axis)
    for axis in axes[:2]:
        axis.set_xlabel("")
    figure.legend(list(labelled.values()), list(labelled), loc="outside upper center", ncols=3, frameon=False)
    return Panel(run.name, figure, table, _raised_text(groups))


def _of_kinds(values: pd.Series) -> dict[str, pd.Series]:
    """Series by (raised, last) -> the series of each kind that there is."""
    names = {False: "base", True: "raised"}
    return {names[raised]: values.loc[raised] for raised in values.index.get_level_values(0).unique()}


def _entropy(run: Run, steps: Steps, groups: pd.DataFrame) -> dict[str, pd.Series]:
    if _has(groups, ENTROPY):
        return _of_kinds(groups.groupby(["raised", "last"])[ENTROPY].mean().dropna())
    whole = steps.combine(run.metric("actor/entropy"), run.last_step)
    return {"all": whole} if len(whole) else {}


def _raised_text(groups: pd.DataFrame) -> str:
    parts = []
    for raised, name in ((True, "raised"), (False, "base")):
        members = groups[groups["raised"] == raised]
        if len(members):
            responses = members["responses"].sum()
            parts.append(
                f"{len(members)} {name} groups: accuracy {percent(members['correct'].sum() / responses)}, "
                f"{members['tokens'].sum() / responses:.1f} tokens a response, "
                f"{percent(members['truncated'].sum() / responses)} truncated"
            )
        else:
            parts.append(f"no {name} groups")
    entropy = "" if _has(groups, ENTROPY) else " This run logged the entropy of all groups together only."
    return "; ".join(parts) + "." + entropy


def agreement(run: Run, steps: Steps, edges: NDArray[np.float64]) -> Panel | None:
    """Differences of rollout and training probabilities, by temperature where the group log tells; None without any."""
    if _has(run.groups, DIFF_MAX):
        return _agreement_by_temperature(run, edges)
    kinds = ("base", "raised")
    curves = {
        (kind, which): run.metric(f"erpo/{kind}/probs_diff_{which}") for kind in kinds for which in ("mean", "max")
    }
    curves = {name: values for name, values in curves.items() if len(values)}
    if not curves:
        return None
    figure, (axis,) = canvas()
    points = sorted({int(p) for values in curves.values() for p in steps.combine(values, run.last_step).index})
    table = pd.DataFrame({"steps": [steps.label(step) for step in points]})
    for (kind, which), values in curves.items():
        # The largest difference of a point is its largest, not a mean of maxima.
        by_point = steps.combine(values, run.last_step, which)
        colour = BASE_COLOUR if kind == "base" else RAISED_COLOUR
        marker = "o" if kind == "base" else "^"
        axis.plot(
            by_point.index, by_point, color=colour, marker=marker, markersize=3.5,
            linestyle="-" if which == "mean" else ":", label=f"{kind}, {_word(which)}",
        )  # fmt: skip
        table[f"{kind}, {_word(which)}"] = [_tiny(value) for value in by_point.reindex(points)]
    over_steps(axis)
    axis.set(ylabel="difference of token probability", yscale="log")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    largest = max(values.max() for (_, which), values in curves.items() if which == "max")
    text = f"Largest difference of a token's probability {_tiny(largest)}. By temperature: not logged by this run."
    return Panel(run.name, figure, table, text)


def _agreement_by_temperature(run: Run, edges: NDArray[np.float64]) -> Panel:
    groups = run.groups.dropna(subset=[DIFF_MAX])
    bins = pd.Series(np.digitize(groups["temperature"], edges) - 1, index=groups.index)
    by_bin = groups.groupby(bins).agg(
        middle=("temperature", "mean"), mean=(DIFF_MEAN, "mean"), max=(DIFF_MAX, "max"), groups=("key", "size")
    )
    figure, (axis,) = canvas()
    axis.plot(by_bin["middle"], by_bin["mean"], color=BASE_COLOUR, marker="o", label="mean")
    axis.plot(by_bin["middle"], by_bin["max"], color=RAISED_COLOUR, marker="^", linestyle=":", label="largest")
    axis.set(xlabel="sampling temperature", ylabel="difference of token probability", yscale="log")
    axis.set_xlim(edges[0], edges[-1])
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    table = pd.DataFrame(
        {
            "T": [number(value) for value in by_bin["middle"]],
            "mean difference": [_tiny(value) for value in by_bin["mean"]],
            "largest difference": [_tiny(value) for value in by_bin["max"]],
            "groups": by_bin["groups"].astype(str).tolist(),
        }
    )
    hottest = by_bin.iloc[-1]
    text = (
        f"Largest difference of a token's probability {_tiny(by_bin['max'].max())}; at the hottest temperature, "
        f"{hottest['middle']:.2f}, it is {_tiny(hottest['max'])}."
    )
    return Panel(run.name, figure, table, text)


def heat(run: Run, steps: Steps) -> Panel | None:
    """Mass outside the top 20 tokens, and broken responses of mixed groups, over steps; None without the metrics."""
    shares = {
        "tail_mass": ("at each response's T", BASE_COLOUR, "o"),
        "tail_mass_hotter": ("at T + 0.2", RAISED_COLOUR, "^"),
        "broken_wrong": ("wrong responses", BASE_COLOUR, "o"),
        "broken_right": ("right responses", RAISED_COLOUR, "^"),
    }
    curves = {name: steps.combine(run.metric(f"erpo/heat/{name}"), run.last_step) for name in shares}
    points = sorted({int(point) for values in curves.values() for point in values.index})
    if not points:
        return None
    titles = {"tail": "probability outside the top 20 tokens", "broken": "share that is broken, in mixed groups"}
    titles = {
        kind: title for kind, title in titles.items() if any(len(curves[n]) for n in shares if n.startswith(kind))
    }
    figure, axes = canvas(len(titles), 1, height=2.6 * len(titles))
    table = pd.DataFrame({"steps": [steps.label(step) for step in points]})
    for axis, (kind, title) in zip(axes, titles.items(), strict=True):
        axis.set_title(title, fontsize=10)
        highest = 0.05
        for name, (label, colour, marker) in shares.items():
            values = curves[name]
            if name.startswith(kind) and len(values):
                axis.plot(values.index, values, color=colour, marker=marker, markersize=3.5, label=label)
                table[f"{kind}, {label}"] = [percent(value) for value in values.reindex(points)]
                highest = max(highest, 1.05 * values.max())
        axis.set_ylim(0, highest)
        axis.legend(fontsize=8, frameon=False)
        over_steps(axis)
    last = [f"{label} {percent(curves[name].iloc[-1])}" for name, (label, *_) in shares.items() if len(curves[name])]
    return Panel(run.name, figure, table, f"At last: {', '.join(last)}.")


def tolerance(run: Run, edges: NDArray[np.float64]) -> Panel | None:
    """Raised groups by temperature beside the last visit of their prompts at the base; None without any."""
    groups = run.groups.assign(
        responses=run.groups["lengths"].map(len),
        # The last visit at the base temperature before this one, which may be some visits ago.
        visit=np.where(run.groups["raised"], np.nan, np.arange(len(run.groups))),
    )
    groups["visit"] = groups.groupby("key")["visit"].ffill()
    raised = groups[groups["raised"] & groups["visit"].notna()]
    if not len(raised):
        return None
    before = groups.loc[raised["visit"].astype(int)].set_index(raised.index)
    bins = pd.Series(np.digitize(raised["temperature"], edges) - 1, index=raised.index)
    middles = raised["temperature"].groupby(bins).mean()
    figure, axes = canvas(1, 2, height=3.3)
    table = pd.DataFrame({"T": [number(value) for value in middles]})
    for axis, title, column in zip(axes, ("accuracy", "share truncated"), ("correct", "truncated"), strict=True):
        axis.set_title(title, fontsize=10)
        for label, of, colour, marker in (
            ("same prompts at the base before", before, BASE_COLOUR, "o"),
            ("raised", raised, RAISED_COLOUR, "^"),
        ):
            sums = of[[column, "responses"]].groupby(bins).sum()
            values = sums[column] / sums["responses"]
            axis.plot(middles, values, color=colour, marker=marker, markersize=4, label=label)
            table[f"{title}, {label}"] = [percent(value) for value in values]
        axis.set_xlabel("sampling temperature")
        axis.set_xlim(edges[0], edges[-1])
    axes[0].set_ylim(-0.03, 1.03)
    axes[1].set_ylim(0, max(0.05, axes[1].get_ylim()[1]))
    table["groups"] = [str(count) for count in bins.value_counts().sort_index()]
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    hottest, at_base = table.iloc[-1], "accuracy, same prompts at the base before"
    text = (
        f"At the hottest temperature, {hottest['T']}, the accuracy is {hottest['accuracy, raised']}; the same prompts "
        f"had {hottest[at_base]} at the base."
    )
    return Panel(run.name, figure, table, text)


def signal(run: Run, steps: Steps) -> Panel | None:
    """Trained responses with a gradient, over generated tokens and per generated token; None without the metrics."""
    prefix = "erpo/signal/frac_responses_with_gradient"
    if not len(run.metric(prefix)) or not len(run.metric("erpo/generated/tokens")):
        return None
    whole = steps.combine(run.metric(prefix), run.last_step)
    mixed = steps.combine(run.metric(f"{prefix}_mixed"), run.last_step)
    ra = steps.combine(run.metric(f"{prefix}_ra"), run.last_step)
    tokens = run.tokens_at(pd.Series(whole.index, index=whole.index))
    trained = run.groups[~run.groups["dropped"]]
    responses = trained["lengths"].map(len).groupby(trained["step"]).sum()
    with_gradient = steps.combine(run.metric(f"{prefix}_mixed") * responses, run.last_step, "sum")
    per_thousand = 1000 * with_gradient.reindex(whole.index) / tokens.diff().fillna(tokens.iloc[0])
    figure, (share, rate) = canvas(2, 1, height=5.0)
    share.plot(tokens, whole, color="black", marker="s", markersize=3.5, label="all")
    share.plot(tokens, mixed, color=COLOURS["mixed"], marker="o", markersize=3.5, label="from mixed groups")
    if len(ra) and ra.max() > 0:
        share.plot(tokens, ra, color=COLOURS["all_correct"], marker="^", markersize=3.5, label="from RA")
    share.set(ylabel="share of responses\nwith gradient", ylim=(-0.03, 1.03))
    rate.plot(tokens, per_thousand, color=COLOURS["mixed"], marker="o", markersize=3.5)
    rate.set(ylabel="responses with gradient from\nmixed groups per 1,000 tokens")
    over_tokens(share)
    over_tokens(rate)
    rate.set_ylim(bottom=0)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    table = pd.DataFrame(
        {
            "steps": [steps.label(step) for step in whole.index],
            "generated tokens": [number(value, 0) for value in tokens],
            "with gradient": [percent(value) for value in whole],
            "from mixed groups": [percent(value) for value in mixed],
            "from RA": [percent(value) for value in ra],
            "from mixed groups, per 1,000 tokens": [number(value) for value in per_thousand],
        }
    )
    total = 1000 * with_gradient.sum() / tokens.iloc[-1]
    text = (
        f"{number(tokens.iloc[-1], 0)} tokens generated, dropped groups included; {total:.2f} responses with gradient "
        "from mixed groups per 1,000 of them."
    )
    return Panel(run.name, figure, table, text)


def _has(groups: pd.DataFrame, column: str) -> bool:
    return column in groups and bool(groups[column].notna().any())


def _word(which: str) -> str:
    return "mean" if which == "mean" else "largest"


def _tiny(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.1e}"
