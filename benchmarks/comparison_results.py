# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Tables and figures of a comparison: differences are paired by seed, curves go over generated tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from erpo.evaluation.summary import table as markdown
from erpo.runs import read_groups

EVALUATIONS_FILE = "held_out.csv"
CHECKPOINTS, GROUPS = "checkpoints.csv", "groups.csv"
QUARTERS = 4
BASELINES = 2
_KINDS = {
    "all_correct": "all-correct",
    "mixed": "mixed",
    "all_wrong": "all-wrong",
    "dropped": "dropped",
    "mixed_dropped": "mixed and dropped",
}
# Okabe and Ito's colours; markers tell the methods apart as well.
_COLOURS = ("#000000", "#D55E00", "#999999", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7")
_MARKERS = "os^vDPX*"


def collect(runs: Path, budget: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the finished runs of a comparison.

    Args:
        runs: Folder that holds a folder METHOD-seedN for each run.
        budget: Generated tokens that every run spent, about.

    Returns:
        Held-out accuracies (method, seed, step, tokens, mean_at_8, pass_at_8), one row for each checkpoint; and what
        was generated in each quarter of the budget, one row for each run and quarter.
    """
    checkpoints, groups = [], []
    for file in sorted(runs.glob(f"*-seed*/{EVALUATIONS_FILE}")):
        method, seed = file.parent.name.rsplit("-seed", 1)
        identity = {"method": method, "seed": int(seed)}
        checkpoints.append(pd.read_csv(file).assign(**identity))
        groups.append(per_quarter(read_groups(file.parent), budget).assign(**identity))
    if not checkpoints:
        raise FileNotFoundError(f"{runs} holds no finished run of a comparison; name its folder")
    return _identity_first(pd.concat(checkpoints)), _identity_first(pd.concat(groups))


def per_quarter(groups: pd.DataFrame, budget: int) -> pd.DataFrame:
    """What was generated in each quarter of the budget.

    Args:
        groups: The group log of a run.
        budget: Generated tokens of the run; what lies beyond belongs to the last quarter.

    Returns:
        A row for each quarter, 1 to 4: steps, groups, groups of each kind, tokens, and the temperatures' mean and
        largest.
    """
    tokens = groups["lengths"].map(sum)
    # By whole steps: the groups of a step were generated together.
    spent = tokens.groupby(groups["step"]).sum().cumsum()
    share = groups["step"].map(spent) / budget
    quarter = (share * QUARTERS).apply(np.ceil).clip(1, QUARTERS).astype(int).rename("quarter")
    by_quarter = groups.assign(tokens=tokens).groupby(quarter)
    kinds = pd.crosstab(quarter, groups["outcome"])
    table = pd.DataFrame(
        {
            "steps": by_quarter["step"].nunique(),
            "groups": by_quarter.size(),
            **{kind: kinds.get(kind, 0) for kind in ("all_correct", "mixed", "all_wrong")},
            "dropped": by_quarter["dropped"].sum(),
            # Where a method drops groups, verl asks for twice as many, and discards those that it does not need.
            "mixed_dropped": (groups["dropped"] & (groups["outcome"] == "mixed")).groupby(quarter).sum(),
            "revived": by_quarter["revived"].sum(),
            "tokens": by_quarter["tokens"].sum(),
            "temperature_mean": by_quarter["temperature"].mean().round(4),
            "temperature_max": by_quarter["temperature"].max().round(4),
        }
    )
    return table.reset_index()


def _identity_first(table: pd.DataFrame) -> pd.DataFrame:
    return table[["method", "seed", *table.columns.drop(["method", "seed"])]].reset_index(drop=True)


def at_shares(checkpoints: pd.DataFrame, budget: int, quantity: str) -> pd.DataFrame:
    """A held-out quantity at each quarter of the budget, interpolated between checkpoints.

    Returns:
        One row for each (method, seed), one column for each quarter, 1 to 4.
    """
    shares = np.arange(1, QUARTERS + 1)
    rows = {
        run: np.interp(shares * budget / QUARTERS, table["tokens"], table[quantity])
        for run, table in checkpoints.groupby(["method", "seed"], sort=False)
    }
    index = pd.MultiIndex.from_tuples(rows, names=["method", "seed"])
    return pd.DataFrame(list(rows.values()), index=index, columns=shares)


def paired(values: pd.Series, method: str, baseline: str) -> pd.Series:
    """Differences method - baseline by seed, over the seeds that both have."""
    return (values[method] - values[baseline]).dropna()


def interval(differences: pd.Series) -> str:
    """Mean and the half width of its 95 % t interval, in points."""
    points = differences * 100
    if len(points) < 2:
        return f"{points.mean():+.1f} (one seed)" if len(points) else "-"
    half = stats.t.ppf(0.975, len(points) - 1) * points.sem()
    return f"{points.mean():+.1f} ± {half:.1f}"


def accuracy_table(checkpoints: pd.DataFrame, budget: int, methods: Sequence[str]) -> pd.DataFrame:
    """Held-out accuracy of every method, with differences to the baselines, the first two, paired by seed."""
    means, passes = (at_shares(checkpoints, budget, quantity) for quantity in ("mean_at_8", "pass_at_8"))
    rows = []
    for method in methods:
        mean, last = means.loc[method], means[QUARTERS]
        row = {
            "method": method,
            "seeds": len(mean),
            "mean@8 at 25, 50, 75 %": ", ".join(f"{mean[quarter].mean():.3f}" for quarter in range(1, QUARTERS)),
            "at the end": _spread(mean[QUARTERS]),
            "pass@8 at the end": _spread(passes.loc[method][QUARTERS]),
        }
        for baseline in methods[:BASELINES]:
            other = method != baseline
            row[f"end - {baseline}"] = interval(paired(last, method, baseline)) if other else "-"
            row[f"curve - {baseline}"] = interval(paired(means.mean(axis=1), method, baseline)) if other else "-"
        rows.append(row)
    return pd.DataFrame(rows)


def _spread(values: pd.Series) -> str:
    """Mean and standard deviation over the seeds; ± is kept for intervals."""
    return f"{values.mean():.3f} (sd {values.std():.3f})" if len(values) > 1 else f"{values.mean():.3f}"


def signal_table(groups: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """Where the generated tokens went: kinds of groups, signal per token, temperatures."""
    rows = []
    for method in methods:
        of_method = groups[groups["method"] == method]
        total = of_method.sum(numeric_only=True)
        first, last = (of_method[of_method["quarter"] == quarter] for quarter in (1, QUARTERS))
        seeds = of_method["seed"].nunique()
        trained = total["mixed"] - total["mixed_dropped"]
        rows.append(
            {
                "method": method,
                "updates": f"{total['steps'] / seeds:.0f}",
                "groups": f"{total['groups'] / seeds:.0f}",
                **{_KINDS[kind]: f"{total[kind] / total['groups']:.1%}" for kind in _KINDS},
                "mixed, first and last quarter": f"{_share(first, 'mixed'):.1%}, {_share(last, 'mixed'):.1%}",
                "mixed groups trained on, per 1,000 tokens": f"{1000 * trained / total['tokens']:.2f}",
                "revivals": f"{total['revived'] / seeds:.0f}",
                "mean T, first and last quarter": f"{_mean_t(first):.2f}, {_mean_t(last):.2f}",
                "highest T": f"{of_method['temperature_max'].max():.2f}",
            }
        )
    return pd.DataFrame(rows)


def _share(groups: pd.DataFrame, kind: str) -> float:
    return float(groups[kind].sum() / groups["groups"].sum())


def _mean_t(groups: pd.DataFrame) -> float:
    return float(np.average(groups["temperature_mean"], weights=groups["groups"]))


def draw(checkpoints: pd.DataFrame, groups: pd.DataFrame, budget: int, methods: Sequence[str]) -> Figure:
    """Held-out accuracy and share of mixed groups over generated tokens, and the final differences seed by seed."""
    figure = Figure(figsize=(11, 7.5), layout="constrained")
    accuracy, passes, mixed, differences = figure.subplots(2, 2).flat
    tokens = np.arange(1, QUARTERS + 1) * budget / QUARTERS / 1000
    means = at_shares(checkpoints, budget, "mean_at_8")
    mixed_share = (groups["mixed"] / groups["groups"]).rename("mixed")
    quarters = groups.assign(mixed=mixed_share).pivot_table(index=["method", "seed"], columns="quarter", values="mixed")
    _curves(accuracy, means, methods, tokens, "held-out mean@8")
    _curves(passes, at_shares(checkpoints, budget, "pass_at_8"), methods, tokens, "held-out pass@8")
    _curves(mixed, quarters, methods, tokens, "share of mixed groups")
    for i, method in enumerate(methods):
        points = paired(means[QUARTERS], method, methods[0]) * 100
        differences.plot([i] * len(points), points, _MARKERS[i % 8], color=_COLOURS[i % 8], alpha=0.6)
        differences.plot([i - 0.25, i + 0.25], [points.mean()] * 2, color=_COLOURS[i % 8])
    differences.axhline(0, color="#999999", linewidth=1)
    differences.set_xticks(range(len(methods)), methods, rotation=30, ha="right")
    differences.set_ylabel(f"mean@8 at the end\n- {methods[0]} (points)")
    figure.legend(*accuracy.get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    for axis in (accuracy, passes, mixed, differences):
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _curves(axis: Axes, values: pd.DataFrame, methods: Sequence[str], tokens: np.ndarray, name: str) -> None:
    for i, method in enumerate(methods):
        of_method = values.loc[method]
        colour = _COLOURS[i % 8]
        axis.plot(tokens, of_method.mean(), marker=_MARKERS[i % 8], color=colour, label=method)
        axis.fill_between(tokens, of_method.min(), of_method.max(), color=colour, alpha=0.1, linewidth=0)
    axis.set(xlabel="generated tokens (thousands)", ylabel=name)


def write_results(runs: Path, out: Path, budget: int, parts: Mapping[str, Sequence[str]]) -> None:
    """Write the raw numbers, and for each part its tables (Markdown) and its figure.

    Args:
        runs: Folder of the finished runs.
        out: Folder to write to.
        budget: Generated tokens of each run.
        parts: Methods of each part by its name, baselines first; those without a finished run are left out.
    """
    checkpoints, groups = collect(runs, budget)
    out.mkdir(parents=True, exist_ok=True)
    checkpoints.to_csv(out / CHECKPOINTS, index=False)
    groups.to_csv(out / GROUPS, index=False)
    for name, wanted in parts.items():
        methods = [method for method in wanted if method in set(checkpoints["method"])]
        if not methods:
            continue
        tables = [accuracy_table(checkpoints, budget, methods), signal_table(groups, methods)]
        text = "\n".join(markdown(list(table.columns), table.astype(str).values.tolist()) for table in tables)
        (out / f"{name}.md").write_text(f"# {name.replace('_', ' ').capitalize()}\n\n{text}")
        draw(checkpoints, groups, budget, methods).savefig(out / f"{name}.png", dpi=150)
