# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Command line of the report: ``python -m erpo.report RUN [RUN...] --out DIR [--watch SECONDS]``."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from erpo.report.page import write_report


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the report once, or again and again until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m erpo.report", description="Write the report of runs.")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run, which may still be going")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the page and its pictures to")
    parser.add_argument("--watch", type=int, metavar="SECONDS", help="write the page again every SECONDS seconds")
    options = parser.parse_args(arguments)
    if options.watch is not None and options.watch < 1:
        parser.exit(1, f"error: --watch is {options.watch}; give a whole number of seconds from 1 on.\n")
    try:
        print(write_report(options.runs, options.out, options.watch), flush=True)
        while options.watch:
            time.sleep(options.watch)
            try:
                write_report(options.runs, options.out, options.watch)
            except FileNotFoundError as error:
                # A resumed run removes the steps that it does again; what is left is shown at the next look.
                print(f"waiting: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        return
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
