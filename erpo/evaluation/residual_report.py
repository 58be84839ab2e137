# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The report of a residual share: JSON, Markdown with responses to read, and a picture."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from erpo.evaluation.checkpoint import ModelSource
from erpo.evaluation.estimators import CONFIDENCE
from erpo.evaluation.residual import Row, Suggestion, part_name
from erpo.evaluation.sampler import TOP
from erpo.evaluation.store import SETTINGS_FILE, write_whole
from erpo.evaluation.summary import DASH, describe_run, percent, table, versions
from erpo.evaluation.tolerance import SuggestionForAll

REPORT_FILE = "report.md"
SUMMARY_FILE = "summary.json"
PICTURE_FILE = "residual_share.png"
EXAMPLES = 3
# Characters of a prompt or response that are shown from its beginning and from its end.
_SHOWN = 700


def write_report(
    samples: pd.DataFrame,
    rows: list[Row],
    suggestion: Suggestion,
    for_all: SuggestionForAll,
    source: ModelSource,
    folder: Path,
    warning: str = "",
) -> str:
    """Write JSON, Markdown and picture; returns the tables and the suggestions for the terminal.

    ``warning`` is of :func:`erpo.evaluation.data.training_differs`.
    """
    held = json.loads((folder / SETTINGS_FILE).read_text())
    parts = set(samples["part"])
    summary = {
        "model": source.name,
        "run": describe_run(source),
        "settings": held["settings"],
        "judging": next(judging for part, judging in held["judging"].items() if part in parts),
        "confidence": CONFIDENCE,
        "versions": versions(),
        "prompts": int(samples["key"].nunique()),
        "n": int(samples["sample"].max()) + 1,
        "skipped": next(part["skipped"] for name, part in held["parts"].items() if name in parts),
        "unjudged": int(samples["error"].notna().sum()),
        "warning": warning,
        "temperatures": [asdict(row) for row in rows],
        "suggestion": asdict(suggestion),
        "suggestion_for_all": asdict(for_all),
    }
    short = (
        f"# Residual share of {source.name}\n\n{_table(summary, rows)}\n## Tolerance\n\n{_tolerance(rows)}\n"
        f"## Suggestion\n\n{_suggestion(suggestion, rows[0].temperature)}\n"
        f"## Suggestion for all prompts\n\n{_for_all(for_all)}"
    )
    examples = _examples(samples, rows, choose_prompts(samples, rows))
    write_whole(folder / SUMMARY_FILE, json.dumps(summary, indent=2) + "\n")
    write_whole(folder / REPORT_FILE, f"{short}\n## Responses to read\n\n{examples}")
    _draw(rows, folder / PICTURE_FILE)
    return short


def choose_prompts(samples: pd.DataFrame, rows: list[Row]) -> list[str]:
    """Keys of the prompts that are shown: those with the highest accuracy at T_base, in the order of the data."""
    base = samples[samples["part"] == part_name(rows[0].temperature)]
    accuracy = base.groupby("key", sort=False)["correct"].mean()
    return list(accuracy.sort_values(ascending=False, kind="stable").index[:EXAMPLES])


def _table(summary: Mapping[str, Any], rows: list[Row]) -> str:
    header = ["T", "all-correct", "mixed", "all-wrong", "mean@n", "revived", "their accuracy", "tokens", "truncated"]
    lines = [
        [
            _temperature(row),
            *(percent(asdict(share)) for share in (row.all_correct, row.mixed, row.all_wrong, row.accuracy)),
            percent(asdict(row.revived)) if row.revived else DASH,
            percent(asdict(row.residual_accuracy)) if row.residual_accuracy else DASH,
            f"{row.length:.0f}",
            f"{row.truncated:.1%}",
        ]
        for row in rows
    ]
    base = f"{rows[0].temperature:g}"
    return (
        f"{table(header, lines)}\n{summary['prompts']} prompts, {summary['n']} responses each; percent, "
        f"with {CONFIDENCE:.0%} intervals (shares: Wilson; accuracies: bootstrap over prompts). Revived: of the "
        f"prompts that were all-correct at the first visit at T = {base}, those whose group is mixed here. "
        f"`{base} again` is a second, independent visit: what it revives is chance.\n{_notes(summary)}"
    )


def _tolerance(rows: list[Row]) -> str:
    header = ["T", "easy third", "middle third", "hard third", "hard third all-wrong", "tail mass"]
    lines = [
        [
            _temperature(row),
            *(percent(asdict(third)) for third in row.thirds or ()),
            *([DASH] * (0 if row.thirds else 3)),
            percent(asdict(row.hard_all_wrong)) if row.hard_all_wrong else DASH,
            DASH if row.tail_mass is None else f"{row.tail_mass:.2%}",
        ]
        for row in rows
    ]
    return (
        f"{table(header, lines)}\nAccuracy in percent of the thirds of the prompts, which the first visit at "
        f"T = {rows[0].temperature:g} ordered; there luck is part of the order. Tail mass: probability outside the "
        f"{TOP} most probable tokens.\n"
    )


def _temperature(row: Row) -> str:
    return f"{row.temperature:g}" + (" again" if row.second else "")


def _for_all(suggestion: SuggestionForAll) -> str:
    if suggestion.t_base is None:
        return f"None. {' '.join(suggestion.reasons)}\n"
    settings = f"`method=grpo_hot erpo.schedule.constant.temperature={suggestion.t_base:g}`\n"
    if suggestion.rise_to is not None:
        first, last = f"{suggestion.t_base:g}", f"{suggestion.rise_to:g}"
        settings += f"`method=grpo_rising erpo.schedule.rising.t_first={first} erpo.schedule.rising.t_max={last}`\n"
    return settings + "\n" + "".join(f"{reason}\n" for reason in suggestion.reasons)


def _notes(summary: Mapping[str, Any]) -> str:
    """What is missing in the numbers."""
    notes = f"Warning: {summary['warning']}\n" if summary["warning"] else ""
    if summary["skipped"]:
        notes += f"{summary['skipped']} prompts were too long and are not in these numbers.\n"
    if summary["unjudged"]:
        notes += f"{summary['unjudged']} responses could not be judged and count as wrong.\n"
    return "\n" + notes if notes else ""


def _suggestion(suggestion: Suggestion, base: float) -> str:
    if suggestion.t_max is None:
        return f"None. {suggestion.reason}\n"
    # The schedule starts from the rollout's temperature, which need not be the lowest that was measured.
    settings = f"actor_rollout_ref.rollout.temperature={base:g} erpo.schedule.linear.t_max={suggestion.t_max:g}"
    return f"`{settings} erpo.schedule.linear.dt={suggestion.dt:g}`\n\n{suggestion.reason}\n"


def _examples(samples: pd.DataFrame, rows: list[Row], keys: list[str]) -> str:
    """The same prompts at every temperature: the first response, and the first wrong one where there is another."""
    texts = []
    for number, key in enumerate(keys, 1):
        of_prompt = samples[samples["key"] == key]
        first = of_prompt.iloc[0]
        texts.append(f"### Prompt {number} (answer: {first['ground_truth']})\n\n{_quote(first['prompt'])}\n")
        for row in rows:
            group = of_prompt[of_prompt["part"] == part_name(row.temperature, row.second)]
            if row.second or group.empty:
                continue
            right = int(group["correct"].sum())
            texts.append(f"**T = {row.temperature:g}: {right} of {len(group)} correct**\n")
            wrong = group[~group["correct"]]
            shown = pd.concat([group.iloc[:1], wrong.iloc[:1]]).drop_duplicates("sample")
            for _, response in shown.iterrows():
                verdict = "correct" if response["correct"] else "wrong"
                cut = ", cut at the length limit" if response["truncated"] else ""
                texts.append(f"{verdict}, {response['length']} tokens{cut}:\n\n{_quote(response['response'])}\n")
    return "\n".join(texts)


def _quote(text: str) -> str:
    """A text as an indented block, which no Markdown in it can end; a long one without its middle."""
    if len(text) > 2 * _SHOWN:
        left_out = len(text) - 2 * _SHOWN
        text = f"{text[:_SHOWN]}\n[... {left_out} characters ...]\n{text[-_SHOWN:]}"
    return "".join(f"    {line}\n" for line in text.splitlines() or [""])


def _draw(rows: list[Row], path: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (pip install matplotlib)")
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [row for row in rows if not row.second]
    figure, axis = plt.subplots(figsize=(1.2 + 1.2 * len(shown), 4), layout="constrained")
    bottom = [0.0] * len(shown)
    labels = [f"{row.temperature:g}" for row in shown]
    # Okabe and Ito's colours, told apart by colour-blind readers; as in the pictures of runs.
    for name, colour in (("all_correct", "#E69F00"), ("mixed", "#0072B2"), ("all_wrong", "#999999")):
        shares = [getattr(row, name).value for row in shown]
        axis.bar(labels, shares, bottom=bottom, color=colour, label=name.replace("_", "-"))
        bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    axis.set_xlabel("sampling temperature")
    axis.set_ylabel("share of prompts")
    axis.set_ylim(0, 1)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    temporary = path.with_name(f".{path.name}")
    figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)
    temporary.rename(path)
