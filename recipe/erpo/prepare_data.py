# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Write public math sets as verl data files: ``python -m recipe.erpo.prepare_data NAME... [--source hub|PATH]``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from erpo.datasets.catalog import SETS, find_set
from erpo.datasets.errors import DataError
from erpo.datasets.templates import TEMPLATES


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="prepare_data",
        description="Write public math sets as Parquet in verl's row schema, without repeated problems.",
        epilog="A finished file of the same settings is left as it is; an interruption leaves no half-written one.",
    )
    parser.add_argument("names", nargs="+", metavar="NAME", help=f"any of {', '.join(SETS)}")
    parser.add_argument(
        "--source", default="hub", help="'hub' (default), or a file (.jsonl, .json, .parquet) or folder of one NAME"
    )
    parser.add_argument(
        "--split", help="only this split of gsm8k or math (train or test); needed where SOURCE is a file"
    )
    parser.add_argument(
        "--template", default="dapo", help=f"one of {', '.join(TEMPLATES)}, or a text with {{problem}} (default: dapo)"
    )
    parser.add_argument("--out", type=Path, default=Path("data"), metavar="FOLDER", help="default: data")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            find_set(name)
        if options.source != "hub" and len(options.names) > 1:
            raise DataError("a local --source holds one set; call once for each NAME")
        # After the checks, because it imports the library `datasets`.
        from erpo.datasets.prepare import prepare

        for name in options.names:
            for prepared in prepare(name, options.out, options.source, options.template, options.split):
                print(prepared)
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; files named above are whole, others are as they were", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
