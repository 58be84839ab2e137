# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the arithmetic problems as a set of mathematics comes, for the data preparation.

`python -m erpo.tasks.arithmetic.export --out DIR` writes `train.jsonl`, every problem three times, and `test.jsonl`;
rows hold `problem` and `answer`. Both are pools of `erpo.tasks.arithmetic.prepare`.
"""

import argparse
from pathlib import Path

import pandas as pd

from erpo.tasks.arithmetic.task import RESERVED_VALIDATION_PROMPTS, make_pools

REPETITIONS = 3


def export(folder: Path, train_prompts: int, test_prompts: int) -> None:
    """Write the two files.

    Args:
        folder: Folder to write to; made if it is not there.
        train_prompts: Number of different problems in the train file.
        test_prompts: Number of problems in the test file.

    Raises:
        ValueError: A number is not positive, or there are not so many problems.
    """
    pools = make_pools(train_prompts, test_prompts, RESERVED_VALIDATION_PROMPTS)
    folder.mkdir(parents=True, exist_ok=True)
    for name, problems in (("train", pools.train * REPETITIONS), ("test", pools.test)):
        rows = [{"problem": problem.prompt, "answer": problem.answer} for problem in problems]
        pd.DataFrame(rows).to_json(folder / f"{name}.jsonl", orient="records", lines=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the arithmetic problems as a set of mathematics comes.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--train-prompts", type=int, default=128)
    parser.add_argument("--test-prompts", type=int, default=256)
    options = parser.parse_args()
    try:
        export(options.out, options.train_prompts, options.test_prompts)
    except (ValueError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
