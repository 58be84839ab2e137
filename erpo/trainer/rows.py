# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the trainer reads of data rows: which prompts they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensordict import TensorDict
from tqdm import tqdm

from erpo.tracker import DataSummary, check_prompts, prompt_key
from erpo.trainer.config import ConfigError


def rows_of(batch: TensorDict) -> list[dict[str, Any]]:
    """The columns of a dispatched batch that name its prompts, row by row."""
    names = [name for name in ("raw_prompt", "data_source", "extra_info") if name in batch.keys()]  # noqa: SIM118
    columns = {name: [getattr(value, "data", value) for value in list(batch.get(name))] for name in names}
    return [{name: column[i] for name, column in columns.items()} for i in range(len(batch))]


def prompt_key_of_row(row: dict[str, Any]) -> bytes:
    """Key of the prompt in a dataset row."""
    return prompt_key(*_identity(row))


def check_rows(dataset: Sequence[dict[str, Any]]) -> DataSummary:
    """Identify the prompts of the training data; what cannot be trained on is an error that names it."""
    if not len(dataset):
        raise ConfigError(
            "the training data hold no prompt that fits; raise data.max_prompt_length, or name other data.train_files."
        )
    if "__rollout_n__" in dataset[0]:
        raise ConfigError(
            "the data hold a column __rollout_n__, but all groups of ERPO have rollout.n responses; drop it"
        )
    rows = tqdm(range(len(dataset)), desc="Checking prompts", leave=False)
    return check_prompts(_checked_identity(dataset, i) for i in rows)


def _checked_identity(dataset: Sequence[dict[str, Any]], number: int) -> tuple[str, Any, Any]:
    # verl's data set fails on some broken cells by itself, in its own words; below it lie the rows of the file.
    cells = getattr(dataset, "dataframe", dataset)[number]
    for name in ("extra_info", "reward_model"):
        cell = cells.get(name)
        if cell is not None and not isinstance(cell, Mapping):
            raise ConfigError(
                f"row {number} of the training data: {name} is of type {type(cell).__name__} ({str(cell)[:40]!r}); "
                "write it as a struct with fields, not as text."
            )
    if "reward_model" in cells and (cells["reward_model"] or {}).get("ground_truth") is None:
        raise ConfigError(
            f"row {number} of the training data: reward_model has no ground_truth; add it, or a placeholder where the "
            "reward function needs none."
        )
    row = dataset[number]
    if not isinstance(row["raw_prompt"], (list, tuple, np.ndarray)) or len(row["raw_prompt"]) == 0:
        raise ConfigError(
            f"row {number} of the training data: the prompt is {str(row['raw_prompt'])[:40]!r}; make it a list of "
            "{role, content} messages."
        )
    if row.get("data_source", "") is None:
        raise ConfigError(f"row {number} of the training data: data_source is null; name it, it chooses the scorer.")
    return _identity(row)


def _identity(row: dict[str, Any]) -> tuple[str, Any, Any]:
    """What names the prompt of a dataset row: data source, prompt and id."""
    return str(row.get("data_source", "")), row["raw_prompt"], (row.get("extra_info") or {}).get("prompt_id")
