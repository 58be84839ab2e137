# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The page: sections of panels, put together to one HTML file that needs nothing else, and the pictures beside it."""

import base64
import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from numpy.typing import NDArray
from tqdm import tqdm

from erpo.report import learning
from erpo.report.compare import compare
from erpo.report.data import Run, Steps, load_runs
from erpo.report.figures import (
    Panel,
    flow,
    number,
    outcomes,
    percent,
    revivals,
    share_axes,
    temperature_edges,
    temperatures,
)
from erpo.report.prompts import Prompt, any_with_samples, most_revived, stubborn

PAGE_FILE = "index.html"
_DPI = 150


@dataclass
class Section:
    """One section of the page.

    Attributes:
        id: Anchor, and beginning of the names of its pictures.
        title: Heading.
        text: What is to be seen, and how it is counted.
        panels: Its figures; a run without data for it has none.
        missing: What is not there, and how to get it, in a sentence; empty if nothing is missing.
    """

    id: str
    title: str
    text: str
    panels: list[Panel] = field(default_factory=list)
    missing: str = ""


@dataclass(frozen=True)
class _Subject:
    """A section that shows every run by itself; `draw` takes a run, the steps of a point and edges of temperatures."""

    id: str
    title: str
    text: str
    draw: Callable[[Run, Steps, NDArray[np.float64]], Panel | None]
    missing: str = ""


_SUBJECTS = (
    _Subject(
        "kinds",
        "Kinds of groups",
        "A group is the responses sampled for one prompt at one visit. All-correct and all-wrong groups have no "
        "advantage of their own; mixed ones do. Dropped groups are counted. Each point is {points}.",
        lambda run, steps, edges: outcomes(run, steps),
    ),
    _Subject(
        "temperatures",
        "Sampling temperatures",
        "The darker a cell, the more of the groups of {points} were sampled at that temperature.",
        temperatures,
    ),
    _Subject(
        "revivals",
        "Revivals",
        "A revived prompt was all-correct at its last visit and is mixed now. By temperature: the share of revived "
        "ones among the groups after an all-correct visit; how many groups these are stands above each bar.",
        revivals,
    ),
    _Subject(
        "flow",
        "Flow of prompts between kinds",
        "Each bar is an epoch, each ribbon the prompts that went from one kind to another, in the colour of the kind "
        "they had. A prompt's kind is that of its last group in the epoch.",
        lambda run, steps, edges: flow(run),
    ),
    _Subject(
        "raised",
        "Raised and base groups",
        "Raised groups were sampled above the base temperature. Accuracy and truncation are shares of responses.",
        lambda run, steps, edges: learning.raised_and_base(run, steps),
    ),
    _Subject(
        "tolerance",
        "Tolerance by temperature",
        "Raised groups beside the last visit of the same prompts at the base temperature. ERPO raises a prompt after "
        "an all-correct visit, so part of the fall is chance; and the policy has changed in between.",
        lambda run, steps, edges: learning.tolerance(run, edges),
        "No group was raised after a visit at the base temperature yet.",
    ),
    _Subject(
        "heat",
        "Heat",
        "A response is broken if it was cut, if no answer was found in it, or if it has a token that is rare at T = 1. "
        "Compare the wrong responses with the right ones of the same groups.",
        lambda run, steps, edges: learning.heat(run, steps),
        "No heat was logged: set erpo.heat.tokens=512 and actor_rollout_ref.rollout.calculate_log_probs=true.",
    ),
    _Subject(
        "agreement",
        "Agreement of rollout and training log-probs",
        "Differences of the probability of a sampled token between the rollout engine and the trainer, both at the "
        "temperature of sampling.",
        learning.agreement,
        "No log-prob agreement was logged: set actor_rollout_ref.rollout.calculate_log_probs=true.",
    ),
    _Subject(
        "signal",
        "Responses with gradient per generated token",
        "Real signal comes from mixed groups, RA's from a pseudo sample. Tokens of dropped groups count as well.",
        lambda run, steps, edges: learning.signal(run, steps),
        "No shares of responses with gradient were logged yet.",
    ),
)


def write_report(run_folders: Sequence[str | Path], out: str | Path, refresh: int | None = None) -> Path:
    """Write the report of runs: one HTML page that needs nothing else, and its pictures beside it.

    Runs may still be going; what they have finished is shown.

    Args:
        run_folders: Folders of runs.
        out: Folder to write to; made if needed.
        refresh: Seconds after which a browser loads the page anew; None: never.

    Returns:
        The page.

    Raises:
        FileNotFoundError: A folder is not one of a run.
        ValueError: A folder is named twice.
        OSError: `out` cannot be written.
    """
    runs = load_runs(run_folders)
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error) from error
    started = [run for run in runs if run.last_step]
    sections = _sections(started) if started else []
    figures = []
    for section in tqdm(sections, desc="Drawing", leave=False, disable=None):
        figures.append([_picture(section, panel, out) for panel in section.panels])
    environment = Environment(loader=PackageLoader("erpo.report", "."), autoescape=True, trim_blocks=True)
    html = environment.get_template("page.html").render(
        facts=_facts(runs),
        waiting=[run.name for run in runs if not run.last_step],
        sections=list(zip(sections, figures, strict=True)),
        prompts=[(run, _prompt_lists(run)) for run in started],
        title=", ".join(run.name for run in runs),
        written=datetime.now().strftime("%Y-%m-%d %H:%M:%S"),
        refresh=refresh,
    )
    page = out / PAGE_FILE
    _replace(page, html.encode())
    return page


def _sections(runs: Sequence[Run]) -> list[Section]:
    steps, edges = Steps.of(runs), temperature_edges(runs)
    points = "one step" if steps.width == 1 else f"{steps.width} steps"
    sections = []
    if len(runs) > 1:
        text = f"Every run on the same axes, over training steps and over generated tokens. Each point is {points}, "
        text += "except held-out accuracy, which is shown where it was measured."
        sections.append(Section("methods", "Methods side by side", text, compare(runs, steps)))
    for subject in _SUBJECTS:
        panels = [panel for run in runs if (panel := subject.draw(run, steps, edges)) is not None]
        share_axes(panels)
        text, missing = subject.text.format(points=points), "" if panels else subject.missing
        sections.append(Section(subject.id, subject.title, text, panels, missing))
    return sections


def _facts(runs: Sequence[Run]) -> pd.DataFrame:
    rows = []
    for run in runs:
        tokens, accuracy = run.tokens(), run.held_out_accuracy()
        measured = "-"
        if len(accuracy) == 1:
            measured = f"{percent(accuracy.iloc[0])} at step {accuracy.index[0]}, not measured again"
        elif len(accuracy):
            measured = f"{percent(accuracy.iloc[0])} to {percent(accuracy.iloc[-1])}"
        rows.append(
            {
                "run": run.name,
                "folder": run.folder.resolve().name,
                "steps": str(run.last_step),
                "groups": f"{len(run.groups):,}",
                "prompts": f"{run.groups['key'].nunique():,}" if run.last_step else "0",
                "generated tokens": number(tokens.iloc[-1], 0) if len(tokens) else "-",
                "base T": number(run.base),
                "cap": "-" if run.cap is None else number(run.cap),
                "held-out accuracy": measured,
            }
        )
    return pd.DataFrame(rows)


def _prompt_lists(run: Run) -> list[tuple[str, list[Prompt]]]:
    lists = [("Most stubborn", stubborn(run)), ("Most often revived", most_revived(run))]
    if not any(prompt.responses for _, prompts in lists for prompt in prompts):
        lists.append(("With responses to read", any_with_samples(run)))
    return [(title, prompts) for title, prompts in lists if prompts]


def _picture(section: Section, panel: Panel, out: Path) -> tuple[Panel, str, str]:
    """Write a panel's picture; returns panel, file name and the picture as text for the page."""
    names = [section.id, panel.run or panel.table.columns[-1]]
    name = "-".join(re.sub(r"\W+", "-", part).strip("-").lower() for part in names) + ".png"
    buffer = io.BytesIO()
    panel.figure.savefig(buffer, dpi=_DPI)
    _replace(out / name, buffer.getvalue())
    return panel, name, base64.b64encode(buffer.getvalue()).decode()


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OSError:
    return OSError(f"cannot write {path} ({error.strerror}); choose another folder to write to.")
