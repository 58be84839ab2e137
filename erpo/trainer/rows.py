# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the trainer reads of data rows: which prompts they are."""

from collections.abc import Sequence
from typing import Any

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
    if "__rollout_n__" in dataset[0]:
        raise ConfigError(
            "the data hold a column __rollout_n__, but all groups of ERPO have rollout.n responses; drop it"
        )
    rows = tqdm(range(len(dataset)), desc="Checking prompts", leave=False)
    return check_prompts(_identity(dataset[i]) for i in rows)


def _identity(row: dict[str, Any]) -> tuple[str, Any, Any]:
    """What names the prompt of a dataset row: data source, prompt and id."""
    return str(row.get("data_source", "")), row["raw_prompt"], (row.get("extra_info") or {}).get("prompt_id")
