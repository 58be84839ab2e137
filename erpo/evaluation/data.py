# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts of a prepared set, each once: data sets repeat rows (AIME-2024 of DAPO holds each problem 32 times)."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from erpo.evaluation.config import EvaluationError, read_run
from erpo.runs.settings import setting
from erpo.tracker import TrackerError, check_prompts, key_hex, prompt_key
from erpo.tracker.keys import content_hash

_COLUMNS = ("data_source", "prompt", "reward_model")
# verl's columns for what is neither text nor image.
_REFUSED = ("videos", "audios")
# verl's agent loop of one turn without tools: what the evaluation does.
_ONE_TURN = "single_turn_agent"


@dataclass(frozen=True)
class Problem:
    """One prompt of a set.

    Attributes:
        key: The tracker's key of the prompt, 32 hexadecimal digits.
        data_source: Name by which verl chooses the scorer.
        messages: The prompt, ``[{role, content}, ...]``, with its images in the content, as verl's data set puts them.
        ground_truth: What the scorer compares with.
        extra_info: The row's further fields, handed to the scorer.
    """

    key: str
    data_source: str
    messages: list[dict[str, Any]]
    ground_truth: Any
    extra_info: dict[str, Any]


def find_set(entry: str, data_folder: str | Path) -> tuple[str, Path]:
    """Name and file of a set, given as the name of a prepared one or as a path.

    Raises:
        EvaluationError: There is no such file.
    """
    path = Path(entry) if entry.endswith(".parquet") else Path(data_folder) / f"{entry}.parquet"
    if path.is_file():
        return path.stem, path
    if path.exists() or Path(entry).exists():
        raise EvaluationError(f"{entry} is not a Parquet file; name one in verl's row schema that ends in .parquet.")
    raise EvaluationError(
        f"{path} does not exist; write it with `python -m recipe.erpo.prepare_data {path.stem} --out "
        f"{path.parent}`, or name a Parquet file in verl's row schema."
    )


def find_sets(entries: Sequence[str], data_folder: str | Path) -> dict[str, Path]:
    """Files of sets by name; files of one name are told apart by their folders.

    Raises:
        EvaluationError: A file does not exist, or two cannot be told apart.
    """
    found = [find_set(entry, data_folder) for entry in entries]
    names = [name for name, _ in found]
    files = {name if names.count(name) == 1 else f"{path.resolve().parent.name}_{name}": path for name, path in found}
    if len(files) < len(found):
        raise EvaluationError(f"sets={list(entries)} names one set twice; remove one, or rename its file.")
    return files


def load_problems(path: Path) -> list[Problem]:
    """Read the distinct prompts of a Parquet file in verl's row schema, in the order of the file.

    Raises:
        EvaluationError: The file cannot be read, holds no prompts, contradicts itself, or has a row that cannot be
            used (the first one is named, counted from 0).
    """
    try:
        rows = _read(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise EvaluationError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]}).") from error
    if not rows:
        raise EvaluationError(f"{path} holds no rows; prepare the set again.")
    for column in _COLUMNS:
        if column not in rows[0]:
            raise EvaluationError(f"{path} has no column {column}; make it in verl's row schema.")
    problems: dict[str, Problem] = {}
    for number, row in enumerate(rows):
        wrong = _what_is_wrong(row)
        if not wrong and row.get("images"):
            row["prompt"], wrong = _with_images(row)
        if wrong:
            raise EvaluationError(f"row {number} of {path}: {wrong}.")
    try:
        check_prompts((row["data_source"], row["prompt"], _extra_info(row).get("prompt_id")) for row in rows)
        for row in rows:
            problem = _problem(row)
            first = problems.setdefault(problem.key, problem)
            if first.ground_truth != problem.ground_truth:
                raise TrackerError(
                    f"one prompt has the answers {first.ground_truth!r} and {problem.ground_truth!r}; remove one"
                )
    except TrackerError as error:
        raise EvaluationError(f"{path}: {error}.") from error
    return list(problems.values())


def one_turn_warning(run: Path | None, files: Iterable[Path]) -> str:
    """What is sampled otherwise than in training, as one sentence: the evaluation takes one turn without tools.

    Args:
        run: Folder of the run that the model belongs to; None if it belongs to none.
        files: Files of the sets.

    Returns:
        Empty if nothing is.
    """
    trained, rollout = read_run(run), "actor_rollout_ref.rollout"
    loops = {setting(trained, f"{rollout}.agent.default_agent_loop", _ONE_TURN)}
    for file in files:
        if "agent_name" in pq.read_schema(file).names:
            loops |= set(pq.read_table(file, columns=["agent_name"])["agent_name"].to_pylist())
    named = [f"the agent loop {loop}" for loop in sorted(map(str, loops - {_ONE_TURN, None, ""}))]
    if any(setting(trained, f"{rollout}.multi_turn.{name}") for name in ("tool_config_path", "function_tool_path")):
        named.append("tools")
    if not named:
        return ""
    return (
        f"training uses {' and '.join(named)}, but every response here is one turn without tools, so these numbers are "
        "not comparable with the run's own validation."
    )


def judge_warning(run: Path | None, reward_function: str | None) -> str:
    """What is judged otherwise than in training, as one sentence: the evaluation calls a function.

    Args:
        run: Folder of the run that the model belongs to; None if it belongs to none.
        reward_function: The function that judges here; None for verl's scorer of the data source.

    Returns:
        Empty if nothing is.
    """
    trained = read_run(run)
    own_manager = setting(trained, "reward.reward_manager.source", "register") != "register"
    if reward_function or not (own_manager or setting(trained, "reward.reward_model.enable", False)):
        return ""
    judge = "a reward manager of its own" if own_manager else "a reward model"
    return (
        f"training uses {judge}, but here verl's scorer of the data source judges, so these numbers are not comparable "
        "with the run's own validation; set reward_function."
    )


def training_differs(run: Path | None, files: Iterable[Path], reward_function: str | None) -> str:
    """Both sentences, :func:`one_turn_warning` and :func:`judge_warning`; empty if nothing differs."""
    return " ".join(filter(None, (one_turn_warning(run, files), judge_warning(run, reward_function))))


def draw(problems: list[Problem], count: int | None, seed: int) -> list[Problem]:
    """Draw ``count`` prompts without replacement, in their old order; all of them for None."""
    if count is None or count >= len(problems):
        return problems
    chosen = np.random.default_rng(seed).choice(len(problems), size=count, replace=False)
    return [problems[position] for position in sorted(chosen)]


def fingerprint(problems: Sequence[Problem]) -> str:
    """Name prompts and their order, in 32 hexadecimal digits: what their responses depend on."""
    return _digest([problem.key, _content(problem)] for problem in problems)


def holds_images(problem: Problem) -> bool:
    """Whether a prompt is more than text."""
    return any(
        isinstance(one["content"], list) and any("image" in part for part in one["content"]) for one in problem.messages
    )


def answers_fingerprint(problems: Sequence[Problem]) -> str:
    """Name what the scorer is given beside the responses, in 32 hexadecimal digits."""
    return _digest([problem.key, problem.data_source, problem.ground_truth, problem.extra_info] for problem in problems)


def _content(problem: Problem) -> Any:
    """The messages, or what stands for them where they hold images."""
    return content_hash("", problem.messages).hex() if holds_images(problem) else problem.messages


def _digest(values: Iterable[Any]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for value in values:
        digest.update(json.dumps(value, sort_keys=True, default=repr).encode() + b"\n")
    return digest.hexdigest()


def _read(path: Path) -> list[dict[str, Any]]:
    table = pq.read_table(path)
    if "images" not in table.column_names:
        return table.to_pylist()
    # As verl reads files: a column may be marked as images of Hugging Face's, which are decoded.
    import datasets

    return list(datasets.Dataset(table))


def _extra_info(row: dict[str, Any]) -> dict[str, Any]:
    return row.get("extra_info") or {}


def _what_is_wrong(row: dict[str, Any]) -> str:
    """Why a row cannot be evaluated, and what to change; empty if it can."""
    source, prompt, reward_model, extra_info = (
        row.get(name) for name in ("data_source", "prompt", "reward_model", "extra_info")
    )
    for name in _REFUSED:
        if row.get(name):
            return f"it holds {name}, and the evaluation takes text and images alone; remove such rows"
    if not isinstance(source, str) or not source:
        return f"data_source is {source!r}; make it the name by which verl chooses the scorer"
    for name, cell in (("reward_model", reward_model), ("extra_info", extra_info)):
        if isinstance(cell, (str, bytes)):
            return f"{name} is text; make it a struct, as json.loads reads it"
    if not isinstance(reward_model, dict) or reward_model.get("ground_truth") is None:
        return "reward_model holds no ground_truth; add the answer, or remove the row"
    if extra_info is not None and not isinstance(extra_info, dict):
        return f"extra_info is of type {type(extra_info).__name__}; make it a struct"
    return _wrong_prompt(prompt)


def _wrong_prompt(prompt: Any) -> str:
    schema = "make it a list of {role, content} messages"
    if isinstance(prompt, str):
        try:
            messages = json.loads(prompt) if prompt.lstrip().startswith("[") else None
        except ValueError:
            messages = None
        if isinstance(messages, list) and messages and all(isinstance(one, dict) and "role" in one for one in messages):
            return f"prompt is messages as JSON text; {schema}, as json.loads reads it"
        return "" if prompt.strip() else f"prompt is empty; {schema}"
    if not isinstance(prompt, list) or not prompt:
        return f"prompt is {'null' if prompt is None else 'empty' if prompt == [] else type(prompt).__name__}; {schema}"
    for message in prompt:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or "content" not in message:
            return f"a message of prompt has no role or no content; {schema}"
        content = message["content"]
        if isinstance(content, list) and any(not isinstance(one, dict) or one.get("type") != "text" for one in content):
            return (
                "a message of prompt holds parts that are more than text; put images into the column images, and "
                "<image> into the text, or remove such rows"
            )
        if not isinstance(content, (str, list)) and not (content is None and message.get("tool_calls")):
            return f"the content of a message of prompt is {content!r}; make it text"
    return ""


def _with_images(row: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Messages with the row's images in the places of ``<image>``, by verl's data set; else what is wrong."""
    from verl.utils.dataset.rl_dataset import RLHFDataset

    reader = SimpleNamespace(image_key="images", video_key="videos", audio_key="audios", processor=True)
    images, messages = row["images"], _messages(row["prompt"])
    places = sum(str(message["content"]).count("<image>") for message in messages)
    if places != len(images):
        return [], f"its column images holds {len(images)}, its prompt has <image> {places} times; make them as many"
    try:
        messages = RLHFDataset._build_messages(reader, {**row, "prompt": messages}, key="prompt")
        for message in messages:
            for part in message["content"] if isinstance(message["content"], list) else ():
                if hasattr(part.get("image"), "load"):
                    part["image"].load()
    # Of verl and of Pillow, which knows a broken file by several.
    except (AssertionError, OSError, SyntaxError, TypeError, ValueError) as error:
        return [], f"its images cannot be read ({error}); store each as {{bytes, path}}, as verl's examples do"
    return messages, ""


def _messages(prompt: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _problem(row: dict[str, Any]) -> Problem:
    extra_info = _extra_info(row)
    return Problem(
        key=key_hex(prompt_key(row["data_source"], row["prompt"], extra_info.get("prompt_id"))),
        data_source=row["data_source"],
        messages=_messages(row["prompt"]),
        ground_truth=row["reward_model"]["ground_truth"],
        extra_info=extra_info,
    )
