# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""One picture of runs: ``python -m erpo.runs.plot RUN [RUN...] --out picture.png``.

Each run is a column: the kinds of its groups above, the temperatures that they were sampled at below.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd

from erpo.runs.errors import RunFolderError
from erpo.runs.group_log import read_groups
from erpo.runs.settings import run_names

# Okabe and Ito's colours, told apart by colour-blind readers.
_COLOURS = {"all_correct": "#E69F00", "mixed": "#0072B2", "all_wrong": "#999999"}
_LABELS = {"all_correct": "all-correct (residual)", "mixed": "mixed", "all_wrong": "all-wrong"}
# Steps that are averaged: a small run has few groups in one.
_WINDOW = 8


def plot_runs(run_folders: Sequence[Path], out: Path) -> None:
    """Draw the kinds and the temperatures of the groups of each run.

    Args:
        run_folders: Folders of runs.
        out: Picture to write; its ending decides the format.

    Raises:
        FileNotFoundError: A folder holds no run.
        RunFolderError: The settings of a run cannot be read.
    """
    runs = dict(zip(run_names(run_folders), map(read_groups, run_folders), strict=True))
    figure, axes = plt.subplots(
        2, len(runs), figsize=(5 * len(runs), 6), sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for column, (name, groups) in enumerate(runs.items()):
        _draw_outcomes(axes[0][column], groups)
        axes[0][column].set_title(name)
        _draw_temperatures(axes[1][column], groups)
        axes[1][column].set_xlabel("training step")
    axes[0][0].set_ylabel(f"share of groups (mean of {_WINDOW} steps)")
    axes[1][0].set_ylabel("sampling temperature")
    axes[0][0].legend(loc="upper left", frameon=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def _draw_outcomes(axis: plt.Axes, groups: pd.DataFrame) -> None:
    shares = pd.crosstab(groups["step"], groups["outcome"], normalize="index")
    for outcome, colour in _COLOURS.items():
        if outcome in shares:
            smooth = shares[outcome].rolling(_WINDOW, min_periods=1).mean()
            axis.plot(smooth.index, smooth, color=colour, label=_LABELS[outcome])
    axis.set_ylim(0, 1)
    axis.grid(alpha=0.3)


def _draw_temperatures(axis: plt.Axes, groups: pd.DataFrame) -> None:
    for outcome, colour in _COLOURS.items():
        chosen = groups[groups["outcome"] == outcome]
        axis.scatter(chosen["step"], chosen["temperature"], color=colour, s=12, alpha=0.5, linewidths=0)
    mean = groups.groupby("step")["temperature"].mean().rolling(_WINDOW, min_periods=1).mean()
    axis.plot(mean.index, mean, color="black", label="mean")
    axis.legend(loc="upper left", frameon=False)
    axis.grid(alpha=0.3)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Draw the kinds and temperatures of the groups of runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    parser.add_argument("--out", type=Path, required=True, help="picture to write")
    options = parser.parse_args()
    try:
        plot_runs(options.runs, options.out)
    except (FileNotFoundError, RunFolderError) as error:
        parser.exit(1, f"error: {error}\n")
    print(options.out)


if __name__ == "__main__":
    main()
