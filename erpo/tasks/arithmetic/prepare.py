# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Writes the model and the data files of the arithmetic experiment, once.

`python -m erpo.tasks.arithmetic.prepare --out DIR` builds them; a second call with the same settings reuses them.
"""

import argparse
import logging
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from erpo.tasks.arithmetic.base import BASE_FOLDER, load_base, make_base, one_thread
from erpo.tasks.arithmetic.sampling import group_accuracies
from erpo.tasks.arithmetic.task import RESERVED_TEST_PROMPTS, RESERVED_VALIDATION_PROMPTS, make_pools
from erpo.tasks.arithmetic.warmup import WarmupConfig
from erpo.tasks.artefact import MODEL_FOLDER, TEST_FILE, TRAIN_FILE, build_once, write_data

# Raise it with every change of what is built from the same settings.
FORMAT_VERSION = 3
DATA_SOURCE = "arithmetic"
BASE_ACCURACY_SAMPLES = 4


@dataclass(frozen=True)
class PrepareConfig:
    """Settings of the artefact.

    Attributes:
        train_prompts: Number of prompts in the train file.
        test_prompts: Number of prompts in the test file.
        warmup: Settings of a warm-up; None takes the base model that comes with the package.
    """

    train_prompts: int = 192
    test_prompts: int = 128
    warmup: WarmupConfig | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, in one sentence, for a size that cannot be used."""
        for name in ("train_prompts", "test_prompts"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.warmup is None and self.test_prompts > RESERVED_TEST_PROMPTS:
            raise ValueError(
                f"the base model of the package may have met test prompts after the first {RESERVED_TEST_PROMPTS}, and "
                f"test_prompts is {self.test_prompts}; take fewer, or set the seed of a warm-up of its own"
            )


@dataclass(frozen=True)
class PreparedArithmetic:
    """What `prepare` leaves on disk.

    Attributes:
        model_path: Folder of model and tokenizer, for `from_pretrained`.
        train_file: Parquet file in verl's schema.
        test_file: Likewise, the held-out prompts.
        base_accuracy: Accuracy of the model on the test prompts, sampled at temperature 1.
    """

    model_path: Path
    train_file: Path
    test_file: Path
    base_accuracy: float


def prepare(folder: str | Path, config: PrepareConfig | None = None) -> PreparedArithmetic:
    """Builds the artefact in `folder`, or reuses the one that is there (:func:`erpo.tasks.artefact.build_once`).

    An artefact of other settings is replaced: give each set of settings its own folder where both are in use.

    Args:
        folder: Folder of the artefact. Its parents are created; a folder with other files is refused.
        config: Settings; the defaults if None.

    Raises:
        ValueError: If a setting makes no sense.
        FileExistsError: If `folder` holds files that are not part of an artefact.
        OSError: If `folder` cannot be written.
        RuntimeError: If the warm-up does not reach its target accuracy.
    """
    config = config or PrepareConfig()
    folder = Path(folder).resolve()
    manifest = build_once(folder, FORMAT_VERSION, asdict(config), lambda new: _build(new, config))
    return PreparedArithmetic(
        folder / MODEL_FOLDER, folder / TRAIN_FILE, folder / TEST_FILE, float(manifest["base_accuracy"])
    )


def _build(folder: Path, config: PrepareConfig) -> dict[str, Any]:
    pools = make_pools(config.train_prompts, config.test_prompts, RESERVED_VALIDATION_PROMPTS)
    rows = (
        ((problem.prompt, problem.answer, {"operations": problem.operations}) for problem in problems)
        for problems in (pools.train, pools.test)
    )
    write_data(folder, DATA_SOURCE, *rows)
    result = None
    if config.warmup is None:
        shutil.copytree(BASE_FOLDER, folder / MODEL_FOLDER)
    else:
        result = asdict(make_base(folder / MODEL_FOLDER, config.warmup, pools.prompts))
    model, tokenizer = load_base(folder / MODEL_FOLDER)
    with one_thread():
        scores = group_accuracies(model, tokenizer, pools.test, BASE_ACCURACY_SAMPLES, temperature=1.0, seed=0)
    return {"base_accuracy": sum(scores) / len(scores), "warmup": result}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of `prepare`."""
    defaults = PrepareConfig()
    parser = argparse.ArgumentParser(description="Write the model and data files of the arithmetic experiment.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the artefact")
    parser.add_argument("--train-prompts", type=int, default=defaults.train_prompts)
    parser.add_argument("--test-prompts", type=int, default=defaults.test_prompts)
    parser.add_argument("--seed", type=int, help="warm a base model up from this seed, in place of the package's")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        warmup = None if options.seed is None else WarmupConfig(seed=options.seed)
        prepare(options.out, PrepareConfig(options.train_prompts, options.test_prompts, warmup))
    except (ValueError, OSError, RuntimeError) as error:
        parser.exit(1, f"error: {error}\n")


if __name__ == "__main__":
    main()
