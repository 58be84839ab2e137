# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of methods in the paper's layout, from evaluated runs and beside the public numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erpo.evaluation.config import EvaluationError
from erpo.evaluation.summary import DASH, SUMMARY_FILE, percent, read_summary, table

# The paper's columns, in its order; other sets follow by name.
_TITLES = {"aime25": "AIME 2025", "aime24": "AIME 2024", "amc23": "AMC 2023", "math500": "MATH500"}

# The paper's numbers that are public, in percent, by base model: method, {(set, k of mean@k): value}.
PUBLIC: dict[str, tuple[str, dict[tuple[str, int], float]]] = {
    "Qwen2.5-3B": ("dapo", {("math500", 4): 50.4}),
    "Qwen2.5-7B": ("dapo", {("math500", 4): 60.3}),
}
_PUBLIC_SOURCE = "public (arXiv 2511.04800)"
_NO_METHOD = "base model"
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Entry:
    """One row: a run that was evaluated, or a public result.

    Attributes:
        base_model: Name of the model that was trained.
        method: Method, or "base model".
        source: Run and step, or where the number was published.
        cells: Text by (set, k of mean@k).
        prompts: Fingerprint of the prompts, by set.
        sampling: How responses were sampled, in words, by set.
    """

    base_model: str
    method: str
    source: str
    cells: dict[tuple[str, int], str]
    prompts: dict[str, str] = field(default_factory=dict)
    sampling: dict[str, str] = field(default_factory=dict)


def read_entry(folder: Path) -> Entry:
    """Read one evaluated run, or the folder of one evaluation (of a base model, say).

    Raises:
        EvaluationError: The folder was not evaluated.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder} is not a folder; name runs that were evaluated, or folders of evaluations.")
    evaluation = folder if (folder / SUMMARY_FILE).is_file() else folder / "eval"
    if not (evaluation / SUMMARY_FILE).is_file():
        raise EvaluationError(
            f"{folder} was not evaluated; run `python -m recipe.erpo.main_eval model={folder} sets=[...]` first."
        )
    summary = read_summary(evaluation)
    try:
        return _entry(summary, evaluation)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise EvaluationError(
            f"{evaluation / SUMMARY_FILE} was not written by this version of recipe.erpo.main_eval; evaluate again."
        ) from error


def _entry(summary: Mapping[str, Any], evaluation: Path) -> Entry:
    settings, sets = summary["settings"], summary["sets"]
    prompts = {name: str(numbers["prompts_fingerprint"]) for name, numbers in sets.items()}
    rest = f"top_p {settings['top_p']:g}, top_k {settings['top_k']}, at most {settings['max_response_length']} tokens"
    sampling = {name: f"T = {numbers['temperature']:g}, {rest}" for name, numbers in sets.items()}
    cells = {(name, int(numbers["n"])): percent(numbers["mean"]) for name, numbers in sets.items()}
    run: dict[str, Any] | None = summary["run"]
    if run is None:
        return Entry(str(summary["model"]), _NO_METHOD, str(evaluation.name), cells, prompts, sampling)
    base = Path(run["base_model"]).name if run["base_model"] else _UNKNOWN
    return Entry(base, run["method"] or _UNKNOWN, f"{run['name']}, step {run['step']}", cells, prompts, sampling)


def comparison(entries: Sequence[Entry]) -> str:
    """The table as Markdown: rows are grouped by base model, public results come first in their group.

    Args:
        entries: Evaluated runs, in the order in which they are to be shown.
    """
    public = [
        Entry(base, method, _PUBLIC_SOURCE, {column: f"{value:.1f}" for column, value in values.items()})
        for base, (method, values) in PUBLIC.items()
    ]
    models = dict.fromkeys(entry.base_model for entry in [*entries, *public])
    columns = sorted({column for entry in [*entries, *public] for column in entry.cells}, key=_place)
    rows = [
        [entry.base_model, entry.method, *(entry.cells.get(column, DASH) for column in columns), entry.source]
        for model in models
        for entry in [*public, *entries]
        if entry.base_model == model
    ]
    header = ["base model", "method", *(f"{_TITLES.get(name, name)} mean@{k}" for name, k in columns), "from"]
    return (
        f"{table(header, rows)}\nPercent; intervals over prompts (95%) where the run was evaluated here. {DASH}: not "
        f"evaluated, or not public.\n{_differences(entries)}"
    )


def _differences(entries: Sequence[Entry]) -> str:
    """What keeps numbers of one column from being compared, a line each."""
    lines = []
    for name in dict.fromkeys(name for entry in entries for name in entry.prompts):
        if len({entry.prompts[name] for entry in entries if name in entry.prompts}) > 1:
            lines.append(f"{name}: not the same prompts in all rows.\n")
        sampled = list(dict.fromkeys(entry.sampling[name] for entry in entries if name in entry.sampling))
        if len(sampled) > 1:
            lines.append(f"{name}: sampled differently in different rows ({'; '.join(sampled)}).\n")
    return "\n" + "".join(lines) if lines else ""


def _place(column: tuple[str, int]) -> tuple[int, str, int]:
    name, k = column
    order = list(_TITLES)
    return (order.index(name) if name in order else len(order), name, k)
