# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Write verl data files: of public math sets by their names, or of any file or hub set by the names of its columns.

``python -m recipe.erpo.prepare_data NAME... [--source hub|PATH]``, and of a set of your own
``python -m recipe.erpo.prepare_data NAME --source FILE --problem COLUMN --answer COLUMN --data-source SCORER``.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from erpo.datasets.catalog import SETS, find_set
from erpo.datasets.errors import DataError
from erpo.datasets.templates import TEMPLATES, Prompt, template_text

if TYPE_CHECKING:
    from erpo.datasets.prepare import Prepared

# Options that only a set of the user's own has.
_OWN = ("problem", "answer", "data_source", "id", "config", "revision", "held_out", "seed")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    options = _parser().parse_args(arguments)
    try:
        for prepared in _prepare(options):
            print(prepared)
    except (DataError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("interrupted; the files named above are complete, and the others are unchanged", file=sys.stderr)
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="prepare_data",
        description="Write math sets as Parquet in verl's row schema, without repeated problems.",
        epilog="A finished file of the same settings is left as it is; an interruption leaves no half-written one.",
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help=f"any of {', '.join(SETS)}; with --problem, a name of your own"
    )
    parser.add_argument(
        "--source",
        action="append",
        help="'hub' (default), or a file (.jsonl, .json, .parquet) or folder of one NAME; of a set of your own also "
        "OWNER/NAME on the hub, or several files, each with its --source",
    )
    parser.add_argument(
        "--split",
        help="only this split of gsm8k or math (train or test), needed where SOURCE is a file; or of your own",
    )
    parser.add_argument(
        "--template", default="dapo", help=f"one of {', '.join(TEMPLATES)}, or a text with {{problem}} (default: dapo)"
    )
    parser.add_argument("--system", metavar="TEXT", help="a system message before the problem (default: none)")
    parser.add_argument("--out", type=Path, default=Path("data"), metavar="FOLDER", help="default: data")
    own = parser.add_argument_group("a set of your own")
    own.add_argument("--problem", metavar="COLUMN", help="column of the problems, a nested one by dots")
    own.add_argument(
        "--answer", metavar="COLUMN", help="column of the answers: texts, numbers, or lists of which any is right"
    )
    own.add_argument(
        "--data-source",
        metavar="SCORER",
        help="verl's name for the scorer (math_dapo reads 'Answer: X', lighteval/MATH reads boxed answers, "
        "openai/gsm8k reads '#### X'), or any name where a reward function of your own judges",
    )
    own.add_argument("--id", metavar="COLUMN", help="column of ids (default: a hash of the problem)")
    own.add_argument(
        "--held-out", type=int, metavar="N", help="write N problems to NAME_test, the others to NAME_train"
    )
    own.add_argument("--seed", type=int, help="which problems are held out (default: 0)")
    own.add_argument("--config", help="configuration of a hub set or folder that has several")
    own.add_argument("--revision", help="commit, tag or branch of a hub set")
    return parser


def _prepare(options: argparse.Namespace) -> "Iterator[Prepared]":
    given = [f"--{name.replace('_', '-')}" for name in _OWN if getattr(options, name) is not None]
    missing = [f"--{name.replace('_', '-')}" for name in _OWN[:3] if getattr(options, name) is None]
    if not given:
        yield from _prepare_known(options)
        return
    if missing:
        raise DataError(
            f"{given[0]} is for a set of your own, which also needs {' and '.join(missing)}; add them, or leave out "
            f"{', '.join(given)}"
        )
    if len(options.names) > 1 or not options.source:
        raise DataError("a set of your own has one NAME and its own --source; call once for each")
    if options.seed is not None and options.held_out is None:
        raise DataError("--seed chooses the held-out problems; set --held-out too, or leave it out")
    # After the checks, because it imports the library `datasets`.
    from erpo.datasets.own import OwnSet, prepare_own

    settings = {name: getattr(options, name) for name in (*_OWN, "split") if getattr(options, name) is not None}
    own = OwnSet(name=options.names[0], sources=tuple(options.source), **settings)
    yield from prepare_own(own, options.out, Prompt(template_text(options.template), options.system))


def _prepare_known(options: argparse.Namespace) -> "Iterator[Prepared]":
    for name in options.names:
        find_set(name)
    source, *more = options.source or ["hub"]
    if more or (source != "hub" and len(options.names) > 1):
        raise DataError("a local --source holds one set; call once for each NAME")
    from erpo.datasets.prepare import prepare

    for name in options.names:
        yield from prepare(name, options.out, source, options.template, options.split, options.system)


if __name__ == "__main__":
    main()
