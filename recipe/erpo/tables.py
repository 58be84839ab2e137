# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Compare evaluated runs in the paper's layout: ``python -m recipe.erpo.tables RUN [RUN...] [--out table.md]``."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Print evaluated runs beside the public numbers, as Markdown.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run, or folder of an evaluation")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(arguments)
    from erpo.evaluation.config import EvaluationError
    from erpo.evaluation.store import write_whole
    from erpo.evaluation.tables import comparison, read_entry

    try:
        text = comparison([read_entry(run) for run in options.runs])
        print(text, end="")
        if options.out is not None:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(options.out, text)
    except (EvaluationError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
