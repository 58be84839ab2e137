# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The prompts worth a look: the most stubborn ones, the most often revived ones, and responses of theirs to read."""

from dataclasses import dataclass

import pandas as pd

from erpo.report.data import Run
from erpo.report.figures import percent

# Prompts of each list, and responses of one temperature that are shown of a prompt.
_TOP = 8
_RESPONSES = 4
# Characters of a prompt in a heading.
_HEADING = 70


@dataclass
class Prompt:
    """One prompt of a list.

    Attributes:
        key: Its key in hexadecimal.
        heading: Beginning of its text; its key if neither samples nor training files have it.
        text: Its text, None if none was kept.
        facts: Its history in words.
        responses: Temperature -> responses kept: text, correct, truncated, step.
    """

    key: str
    heading: str
    text: str | None
    facts: str
    responses: dict[str, list[dict[str, object]]]


def stubborn(run: Run) -> list[Prompt]:
    """Prompts by all-correct groups above the base temperature; by all-correct groups where nothing is raised.

    Of equal ones those with responses to read come first.
    """
    correct = run.groups[run.groups["outcome"] == "all_correct"]
    if correct["raised"].any():
        correct = correct[correct["raised"]]
    found = correct.groupby("key").agg(count=("step", "size"), hottest=("temperature", "max"))
    found["readable"] = found.index.isin(_keys_with_samples(run))
    found = found.sort_values(["count", "hottest", "readable"], ascending=False, kind="stable").head(_TOP)
    visits = run.groups["key"].value_counts()
    prompts = []
    for key, count, hottest, _ in found.itertuples():
        groups = f"{count:g} all-correct group{'s' * (count != 1)}"
        prompts.append(_prompt(run, str(key), f"{groups}, up to T {hottest:g}, in {visits[key]} visits"))
    return prompts


def most_revived(run: Run) -> list[Prompt]:
    """Prompts by the number of visits at which they were mixed after an all-correct one.

    Of equal ones those with responses to read come first.
    """
    revived = run.groups[run.groups["revived"]]
    found = revived.groupby("key").agg(count=("step", "size"))
    found["readable"] = found.index.isin(_keys_with_samples(run))
    counts = found.sort_values(["count", "readable"], ascending=False, kind="stable")["count"].head(_TOP)
    visits = run.groups["key"].value_counts()
    prompts = []
    for key, count in counts.items():
        at = ", ".join(f"{t:g}" for t in sorted(revived.loc[revived["key"] == key, "temperature"].unique()))
        times = "once" if count == 1 else f"{count} times"
        prompts.append(_prompt(run, str(key), f"revived {times}, at T {at}, in {visits[key]} visits"))
    return prompts


def any_with_samples(run: Run) -> list[Prompt]:
    """Prompts with responses kept at the most temperatures."""
    if run.samples is None or run.samples.empty:
        return []
    counts = run.samples.groupby("key")["temperature"].nunique().sort_values(ascending=False, kind="stable").head(_TOP)
    return [_prompt(run, str(key), f"responses at {n} temperature{'s' * (n != 1)}") for key, n in counts.items()]


def _keys_with_samples(run: Run) -> pd.Series:
    return pd.Series(dtype=str) if run.samples is None else run.samples["key"]


def _prompt(run: Run, key: str, facts: str) -> Prompt:
    facts += _present(run, key)
    if run.samples is None or not (run.samples["key"] == key).any():
        text = run.texts.get(key)
        return Prompt(key, f"prompt {key[:8]}" if text is None else _heading(text), text, facts, {})
    kept = run.samples[run.samples["key"] == key]
    text = str(kept["prompt"].iloc[-1])
    responses = {}
    for temperature, rows in kept.groupby(kept["temperature"].astype(float).round(4)):
        # The newest ones, wrong ones among them if there are any: they are what a raised temperature is for.
        newest = rows.sort_values("step", ascending=False, kind="stable")
        wrong, right = newest[~newest["correct"]], newest[newest["correct"]]
        half = _RESPONSES // 2
        shown = pd.concat([wrong.head(max(half, _RESPONSES - len(right))), right]).head(_RESPONSES)
        responses[f"{temperature:g}"] = shown.to_dict("records")
    return Prompt(key, _heading(run.texts.get(key, text)), text, facts, responses)


def _heading(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _HEADING else line[: _HEADING - 1] + "…"


def _present(run: Run, key: str) -> str:
    """What the newest tracker state says of the prompt."""
    if run.tracker is None:
        return ""
    rows = run.tracker[run.tracker["key"] == key]
    if rows.empty:
        return ""
    row = rows.iloc[0]
    temperature = f", next at T {row['temperature']:g}" if "temperature" in row else ""
    return f"; tracker at step {run.tracker_step}: last accuracy {percent(row['last_accuracy'])}{temperature}"
