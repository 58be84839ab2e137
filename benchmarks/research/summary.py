# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The table of a study: ``python -m benchmarks.research.summary FILE.csv [--baseline ARM@RATE ...]``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.comparison_results import interval
from erpo.evaluation.summary import table as markdown

RUN = ["arm", "learning_rate", "seed"]


def summarize(study: pd.DataFrame, baselines: Sequence[tuple[str, float]]) -> pd.DataFrame:
    """Held-out accuracy of every arm at every learning rate, with differences paired by seed.

    Args:
        study: Rows as :func:`benchmarks.research.study.run_case` returns them.
        baselines: Arms and learning rates to compare with.

    Returns:
        One row for each arm and learning rate, the largest gain over the first baseline (curve) first.
    """
    trained = study[study["tokens"] > 0]
    by_run = trained.groupby(RUN)
    runs = pd.DataFrame(
        {
            "curve": by_run["accuracy"].mean(),
            "end": by_run["accuracy"].last(),
            "pass": by_run["pass_at_n"].last(),
            "mixed": by_run["mixed"].mean(),
            "temperature": by_run["temperature"].mean(),
        }
    )
    rows, gains = [], []
    for (arm, rate), values in runs.groupby(RUN[:2]):
        row = {
            "arm": arm,
            "learning rate": f"{rate:g}",
            "seeds": str(len(values)),
            "curve": f"{values['curve'].mean():.3f}",
            "end": f"{values['end'].mean():.3f}",
            "pass@8, end": f"{values['pass'].mean():.3f}",
            "mixed groups": f"{values['mixed'].mean():.0%}",
            "mean T": f"{values['temperature'].mean():.2f}",
        }
        for baseline in baselines:
            for quantity in ("curve", "end"):
                differences = (runs.loc[(arm, rate), quantity] - runs.loc[baseline, quantity]).dropna()
                row[f"{quantity} - {baseline[0]} {baseline[1]:g}"] = interval(differences)
        rows.append(row)
        gains.append((runs.loc[(arm, rate), "curve"] - runs.loc[baselines[0], "curve"]).mean())
    return pd.DataFrame(rows).iloc[np.argsort(gains)[::-1]].reset_index(drop=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="summary", description="Print the table of a study.")
    parser.add_argument("file", type=Path)
    parser.add_argument("--baseline", nargs="+", default=["grpo@2e-4"], metavar="ARM@RATE")
    options = parser.parse_args()
    pairs = [baseline.rsplit("@", 1) for baseline in options.baseline]
    table = summarize(pd.read_csv(options.file), [(arm, float(rate)) for arm, rate in pairs])
    print(markdown(list(table.columns), table.to_numpy().tolist()), end="")


if __name__ == "__main__":
    main()
