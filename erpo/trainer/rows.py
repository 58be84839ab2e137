# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the trainer reads of data rows: which prompts they are."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tensordict import TensorDict
from tqdm import tqdm

from erpo.datasets.any_answer import PATH as ANY_ANSWER
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


def prompt_text(messages: Sequence[Mapping[str, Any]]) -> str:
    """What a prompt says, for readers: one message after the other, with ``<image>`` in the place of an image."""

    def text(part: Any) -> str:
        if not isinstance(part, Mapping):
            return str(part)
        said = part.get("text")
        return f"<{part.get('type', 'part')}>" if said is None else str(said)

    contents = [message["content"] for message in messages]
    return "\n".join(
        "".join(map(text, one)) if isinstance(one, (list, tuple, np.ndarray)) else str(one) for one in contents
    )


def check_sizes(train: Sequence[Any], val: Sequence[Any], data: Mapping[str, Any]) -> None:
    """Check that the data, after verl's filter, fill a batch and a validation.

    Args:
        train: Prompts to train on.
        val: Prompts to validate on.
        data: verl's section ``data``.

    Raises:
        ConfigError: There are fewer prompts than a batch, or none to validate on.
    """
    size = data["train_batch_size"]
    limit = data["max_prompt_length"]
    left = f" of at most data.max_prompt_length={limit} tokens" if data["filter_overlong_prompts"] else ""
    if len(train) < size:
        raise ConfigError(
            f"data.train_files hold {len(train)} prompts{left}, fewer than data.train_batch_size={size}; "
            f"{'raise the limit, ' if left else ''}add prompts or lower the batch."
        )
    if len(val) == 0:
        advice = "raise the limit or name another file" if left else "name another file"
        raise ConfigError(f"data.val_files hold no prompt{left}; {advice}.")


def check_tools(dataset: Any, rollout: Mapping[str, Any]) -> None:
    """Check that tools which the settings name can be called: only an agent loop that knows tools does so.

    Args:
        dataset: Prompts to train on; a column ``agent_name`` chooses the agent loop of each.
        rollout: verl's section ``actor_rollout_ref.rollout``.

    Raises:
        ConfigError: All prompts go to verl's agent loop of a single turn.
    """
    turns, default = rollout["multi_turn"], rollout["agent"]["default_agent_loop"]
    named = [name for name in ("tool_config_path", "function_tool_path") if turns.get(name)]
    named += ["enable"] if turns.get("enable") else []
    columns = getattr(getattr(dataset, "dataframe", None), "column_names", ())
    if named and default == "single_turn_agent" and "agent_name" not in columns:
        raise ConfigError(
            f"actor_rollout_ref.rollout.multi_turn.{named[0]} is set, but verl's single_turn_agent calls no tools; set "
            "actor_rollout_ref.rollout.agent.default_agent_loop=tool_agent, or add a column agent_name to the data."
        )


def check_rows(
    dataset: Sequence[dict[str, Any]], setting: str = "data.train_files", *, one_answer: bool = False
) -> DataSummary:
    """Check the cells that verl's reward managers read, and identify the prompts.

    Args:
        dataset: Rows as verl's data set gives them.
        setting: Name of the setting that names the files, for the messages.
        one_answer: Whether the scorer compares with one answer, as verl's own do.

    Raises:
        ConfigError: A cell cannot be used; the message names its row.
        TrackerError: A prompt cannot be identified.
    """
    rows = tqdm(range(len(dataset)), desc="Checking prompts", leave=False)
    return check_prompts(_identity(_checked_row(dataset, i, setting, one_answer)) for i in rows)


def _checked_row(dataset: Sequence[dict[str, Any]], number: int, setting: str, one_answer: bool) -> dict[str, Any]:
    try:
        row = dataset[number]
        problem = _broken_cell(row) or (_listed_answers(row) if one_answer else None)
    except (AssertionError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        # verl reads some cells itself, images among them; the raw row tells which.
        raw = getattr(dataset, "dataframe", None)
        problem = None if raw is None or isinstance(error, OSError) else _broken_cell(raw[number])
        problem = problem or f"cannot be read ({error!r}); fix it"
    if problem is not None:
        raise ConfigError(f"{setting}, row {number}: {problem}.")
    return row


def _broken_cell(row: Mapping[str, Any]) -> str | None:
    if "__rollout_n__" in row:
        return "there is a column __rollout_n__, but all groups of ERPO have rollout.n responses; drop the column"
    if not isinstance(row.get("data_source"), str):
        return f"data_source is {row.get('data_source')!r}; set it to the name by which verl chooses the scorer"
    for name, optional in (("extra_info", True), ("reward_model", False)):
        cell = row.get(name)
        if isinstance(cell, str):
            return f"{name} is text; store it as a struct, as json.loads gives it"
        if not isinstance(cell, Mapping) and not (optional and cell is None):
            return f"{name} is {cell!r}; store a struct"
    if row["reward_model"].get("ground_truth") is None:
        return "reward_model has no ground_truth; add it or drop the row"
    prompt = row.get("raw_prompt", ["not read yet"])
    if not isinstance(prompt, (list, tuple, np.ndarray)) or len(prompt) == 0:
        return f"the prompt is {str(prompt)[:40]!r}; make it a list of {{role, content}} messages"
    return None


def _listed_answers(row: Mapping[str, Any]) -> str | None:
    if isinstance(row["reward_model"]["ground_truth"], (list, tuple, np.ndarray)):
        return (
            "ground_truth is a list, but verl's scorers compare with one text; set "
            f"reward.custom_reward_function.path={ANY_ANSWER}, or a reward function of your own"
        )
    return None


def _identity(row: dict[str, Any]) -> tuple[str, Any, Any]:
    """What names the prompt of a dataset row: data source, prompt and id."""
    return str(row.get("data_source", "")), row["raw_prompt"], (row.get("extra_info") or {}).get("prompt_id")
