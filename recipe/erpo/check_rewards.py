# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Score the gold answers of prepared files as training will: ``python -m recipe.erpo.check_rewards FILE...``.

``--reward-function`` takes that of `reward.custom_reward_function.path` in the place of verl's scorers.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from erpo.datasets.errors import DataError
from erpo.datasets.rewards import (
    SPELLINGS,
    RewardFunction,
    RewardReport,
    check_rewards,
    compare_scorers,
    load_reward_function,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line; exit code 1 where a gold answer is rejected or a wrong one accepted."""
    parser = argparse.ArgumentParser(
        prog="check_rewards",
        description="Score every gold answer, and a wrong one, with the scorer that training will use.",
        epilog="Exit code 1 if a gold answer is rejected or a wrong one accepted.",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="Parquet file in verl's row schema")
    parser.add_argument(
        "--compare",
        action="store_true",
        help="print instead how many gold answers each scorer accepts in each spelling",
    )
    parser.add_argument(
        "--reward-function", metavar="PATH", help="Python file, or pkg://module, with a reward function in verl's form"
    )
    parser.add_argument("--reward-function-name", metavar="NAME", help="its name there (default: compute_score)")
    options = parser.parse_args(arguments)
    # A pipe has no width of its own.
    console = Console(width=None if sys.stdout.isatty() else 160)
    try:
        if options.compare:
            if options.reward_function:
                raise DataError(
                    "--compare is about verl's own scorers; leave out one of --compare and --reward-function"
                )
            for path in options.files:
                _print_comparison(console, path)
            return
        function = _reward_function(options)
        reports = [check_rewards(path, reward_function=function) for path in options.files]
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    _print_reports(console, reports)
    rejected, fooled = sum(len(r.rejected) for r in reports), sum(len(r.fooled) for r in reports)
    if rejected or fooled:
        sys.exit(
            f"error: {rejected} gold answers are rejected and {fooled} wrong ones accepted; "
            "fix these rows or prepare the set with another --template"
        )


def _reward_function(options: argparse.Namespace) -> RewardFunction | None:
    if options.reward_function:
        return load_reward_function(options.reward_function, options.reward_function_name or "compute_score")
    if options.reward_function_name:
        raise DataError("--reward-function-name needs --reward-function, the file that holds it")
    return None


def _print_reports(console: Console, reports: Sequence[RewardReport]) -> None:
    table = Table("file", "data source", title="Gold answers", title_justify="left")
    for heading in ("rows", "accepted", "rejected", "wrong accepted", "reward right", "reward wrong"):
        table.add_column(heading, justify="right")
    for report in reports:
        counts = report.rows, report.answers - len(report.rejected), len(report.rejected), len(report.fooled)
        rewards = (", ".join(f"{value:g}" for value in sorted(report.rewards[kind])) for kind in ("right", "wrong"))
        table.add_row(escape(report.path.name), escape(report.data_source), *map(str, counts), *rewards)
    console.print(table)
    for title, name in (("Rejected gold answers", "rejected"), ("Accepted wrong answers", "fooled")):
        scores = [score for report in reports for score in getattr(report, name)]
        if scores:
            listing = Table("prompt id", "answer", "reward", title=title, title_justify="left")
            for score in scores:
                listing.add_row(escape(score.prompt_id), escape(score.answer), f"{score.reward:g}")
            console.print(listing)


def _print_comparison(console: Console, path: Path) -> None:
    table = Table("scorer", *SPELLINGS, title=f"Accepted gold answers of {path.name}", title_justify="left")
    for scorer, accepted in compare_scorers(path).items():
        table.add_row(scorer, *(str(count) for count in accepted.values()))
    console.print(table)


if __name__ == "__main__":
    main()
