# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
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
