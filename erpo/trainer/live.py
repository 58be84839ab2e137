# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What a run shows while it goes on beside its metrics: histograms of the prompts, and responses to read."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import transfer_queue as tq
from transformers import PreTrainedTokenizerBase

from erpo.tracker import Outcome, PromptTracker
from erpo.trainer.config import AccuracyConfig
from erpo.trainer.groups import Group
from erpo.trainer.rows import prompt_text


def choose_responses(groups: Iterable[Group], count: int) -> list[tuple[Group, int]]:
    """The responses worth reading: of the `count` hottest groups, mixed ones first, a right and a wrong one each.

    Returns:
        Groups and the positions of their responses.
    """
    complete = [group for group in groups if group.outcome != Outcome.INCOMPLETE]
    hottest = sorted(
        complete, key=lambda group: (-group.temperature, abs(group.correct / group.expected - 0.5), group.key)
    )
    chosen = []
    for group in hottest[:count]:
        accuracies = np.array(group.accuracies, dtype=float)
        best, worst = int(accuracies.argmax()), int(accuracies.argmin())
        chosen += [(group, position) for position in dict.fromkeys((best, worst))]
    return chosen


def read_responses(
    chosen: Sequence[tuple[Group, int]],
    tokenizer: PreTrainedTokenizerBase,
    accuracy: AccuracyConfig,
    max_response_length: int,
) -> list[dict[str, Any]]:
    """Read responses out of TransferQueue, as rows of the sample log.

    Args:
        chosen: Groups of the batch that is being trained on, and positions of responses in them.
        tokenizer: The model's.
        accuracy: When a response is correct.
        max_response_length: Length limit of a response in tokens.
    """
    keys = [group.trajectory_keys[position] for group, position in chosen]
    data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=["raw_prompt", "responses"])
    prompts = [getattr(prompt, "data", prompt) for prompt in data["raw_prompt"]]
    rows = []
    for (group, position), prompt, tokens in zip(chosen, prompts, data["responses"].unbind(), strict=True):
        at_limit = len(tokens) >= max_response_length
        rows.append(
            {
                "step": group.step,
                "key": group.key.hex(),
                "prompt": prompt_text(prompt),
                "temperature": group.temperature,
                "response": tokenizer.decode(tokens.tolist(), skip_special_tokens=True),
                "correct": accuracy.is_correct(group.accuracies[position] or 0.0),
                "truncated": at_limit and int(tokens[-1]) != tokenizer.eos_token_id,
                "length": group.lengths[position],
                "outcome": group.outcome.name.lower(),
            }
        )
    return rows


def log_live(loggers: dict[str, Any], tracker: PromptTracker, rows: Sequence[dict[str, Any]], step: int) -> None:
    """Write histograms over the seen prompts, and a table of responses, to the loggers that can show them.

    Args:
        loggers: verl's loggers by name; TensorBoard and Weights & Biases are written to.
        tracker: Its prompts' temperatures, and levels where the schedule has them, become histograms.
        rows: Rows of the sample log; none: no table.
        step: Training step.
    """
    if not {"tensorboard", "wandb"} & loggers.keys():
        return
    histograms = {"temperature": tracker.temperatures_of_seen()}
    levels = tracker.state_dict()["columns"].get("level")
    if levels is not None:
        histograms["level"] = levels
    histograms = {f"erpo/{name}/prompts": values for name, values in histograms.items() if len(values)}
    table = pd.DataFrame(rows)
    if "tensorboard" in loggers:
        writer = loggers["tensorboard"].writer
        for name, values in histograms.items():
            writer.add_histogram(name, values, step)
        if rows:
            writer.add_text("erpo/samples", _markdown(table), step)
    if "wandb" in loggers:
        wandb = loggers["wandb"]
        wandb.log({name: wandb.Histogram(values) for name, values in histograms.items()}, step=step)
        if rows:
            wandb.log({"erpo/samples": wandb.Table(dataframe=table)}, step=step)


# What would end a cell or a row, or be taken for HTML or Markdown inside one: as entities, because a backslash before a
# bar is itself escaped by one that the text ends in.
_IN_A_CELL = {ord(sign): f"&#{ord(sign)};" for sign in "&<>|\\`*_[]~"}


def _cell(value: Any) -> str:
    text = f"{value:.2f}" if isinstance(value, float) else str(value)
    return "<br>".join(line.translate(_IN_A_CELL) for line in text.splitlines())


def _markdown(table: pd.DataFrame) -> str:
    """A Markdown table of one line a response."""
    columns = ["temperature", "outcome", "correct", "length", "prompt", "response"]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    for row in table[columns].itertuples(index=False):
        lines.append(f"| {' | '.join(_cell(value) for value in row)} |")
    return "\n".join(lines)
