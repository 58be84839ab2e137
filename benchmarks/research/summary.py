# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tables of a study: ``python -m benchmarks.research.summary FILE.csv... [--against ARM ...]``."""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.comparison_results import interval
from erpo.evaluation.summary import table as markdown

_RUN = ["arm", "seed"]
_BEST = "best constant"
_SCORES = {
    "over the run": ("accuracy", "mean"),
    "at the end": ("accuracy", "last"),
    "tail-free": ("tail_free", "last"),
    "greedy": ("greedy", "last"),
    "pass@8": ("pass_at_8", "last"),
    # Sampled, at the end of runs of the real trainer.
    "mean@8": ("mean_at_8", "last"),
}


def runs(study: pd.DataFrame) -> pd.DataFrame:
    """Scores and what was generated, one row for each run of one regime.

    Args:
        study: Rows as :func:`benchmarks.research.study.run_case` returns them.

    Returns:
        Indexed by arm and seed; accuracies are means over the evaluations after the start, or the last one.
    """
    trained = study[study["point"] > 0].sort_values("point")
    by_run = trained.groupby(_RUN)
    scores = {name: (column, how) for name, (column, how) in _SCORES.items() if column in study}
    table = pd.DataFrame({name: by_run[column].agg(how) for name, (column, how) in scores.items()})
    mixed = (trained["mixed"] * trained["groups"]).groupby([trained[column] for column in _RUN]).sum()
    table["mixed per 1,000 tokens"] = 1000 * mixed / by_run["tokens"].last()
    for column in ("all_correct", "mixed", "all_wrong", "temperature"):
        table[f"{column} first"], table[f"{column} last"] = by_run[column].first(), by_run[column].last()
    return table


def summarize(study: pd.DataFrame, against: Sequence[str], bases: int | None = None) -> pd.DataFrame:
    """A row for each arm of one regime, with differences paired by seed, the largest over the run first.

    Args:
        study: Rows of one regime.
        against: Names of arms to compare with.
        bases: Seeds take turns at so many base models, and the differences of one of them are averaged first: what is
            left varies with the base model. None: every seed counts for itself.
    """
    scores = runs(study)
    rows = []
    for arm, values in scores.groupby(level="arm"):
        of_arm = values.droplevel("arm")
        row = {
            "arm": str(arm),
            "seeds": str(len(of_arm)),
            "over the run; end": f"{of_arm['over the run'].mean():.3f}; {of_arm['at the end'].mean():.3f}",
        }
        for baseline in against:
            differences = (of_arm - scores.loc[baseline]).dropna(how="all")
            if bases is not None:
                differences = differences.groupby(differences.index % bases).mean()
            for name in [name for name in _SCORES if name in differences]:
                text = interval(differences[name].dropna()) if arm != baseline else ""
                row[f"{name} - {baseline}"] = text
        row |= {
            "mixed per 1,000 tokens": f"{of_arm['mixed per 1,000 tokens'].mean():.2f}",
            "all-correct, mixed, all-wrong, last quarter": ", ".join(
                f"{of_arm[f'{kind} last'].mean():.0%}" for kind in ("all_correct", "mixed", "all_wrong")
            ),
            "mean T, first and last quarter": ", ".join(
                f"{of_arm[f'temperature {part}'].mean():.2f}" for part in ("first", "last")
            ),
        }
        rows.append((of_arm["over the run"].mean(), row))
    return pd.DataFrame([row for _, row in sorted(rows, key=lambda pair: -pair[0])])


def headroom(study: pd.DataFrame, score: str) -> pd.DataFrame:
    """A row for each regime: the best constant's score, and what the other arms differ from it in, paired by seed.

    Args:
        study: Rows of the study "headroom".
        score: Name of a score of :func:`runs`.
    """
    rows = []
    for regime, of_regime in study.groupby("regime", sort=False):
        scores = runs(of_regime)[score].unstack("arm")
        baseline = next(arm for arm in scores if str(arm).startswith("constant"))
        complete = scores.dropna()
        row = {"regime": f"{regime}, {len(complete)} seeds", _BEST: f"{baseline[9:]}: {complete[baseline].mean():.3f}"}
        for arm in of_regime["arm"].unique():
            name = "rise" if str(arm).startswith("rise") else str(arm)
            if arm != baseline:
                row[name] = interval(complete[arm] - complete[baseline])
        rows.append(row)
    return pd.DataFrame(rows)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="summary", description="Print the tables of a study, one for each regime.")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE.csv")
    parser.add_argument("--against", nargs="+", default=["grpo"], metavar="ARM")
    parser.add_argument("--regimes", nargs="+")
    parser.add_argument("--bases", type=int, metavar="N", help="average the seeds of each of N base models first")
    parser.add_argument("--headroom", choices=list(_SCORES), help="one table: all regimes against their best constant")
    options = parser.parse_args()
    study = pd.concat(map(pd.read_csv, options.files))
    if options.headroom:
        table = headroom(study, options.headroom)
        print(markdown(list(table.columns), table.to_numpy().tolist()), end="")
        return
    for regime in options.regimes or study["regime"].unique():
        of_regime = study[study["regime"] == regime]
        table = summarize(of_regime, [arm for arm in options.against if arm in set(of_regime["arm"])], options.bases)
        print(f"\n### {regime}\n")
        print(markdown(list(table.columns), table.to_numpy().tolist()), end="")


if __name__ == "__main__":
    main()
