# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The summary of a run: what happened to accuracy and to the residual prompts."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from erpo.runs.group_log import read_groups
from erpo.runs.metrics_log import held_out_names, read_metrics
from erpo.runs.settings import read_settings, setting
from erpo.tracker import is_raised

# Steps at both ends that a share is averaged over: one step alone holds too few groups.
_LONGEST_WINDOW = 10


@dataclass(frozen=True)
class RunSummary:
    """A run in numbers.

    Attributes:
        steps: Training steps done, as the metrics count them: an asynchronous run trains on groups of earlier steps.
        held_out: What the first and the last validation say of each set: name, first, last.
        window: Steps over which the two shares below are taken: ten, or half of a short run.
        all_correct_start: Share of all-correct groups in the first steps.
        all_correct_end: Share in the last steps.
        prompts_seen: Distinct prompts with a finished group.
        prompts_raised: Prompts that were sampled above ``rollout.temperature`` at least once; above the lowest
            temperature where the settings are not in the folder.
        prompts_revived: Prompts that were all-correct at one visit and mixed at the next, at least once.
        temperature_max: Highest temperature a group was sampled at.
        responses: Responses generated, dropped ones included.
        tokens: Response tokens generated.
        checkpoint: Newest checkpoint, None if there is none.
    """

    steps: int
    held_out: list[tuple[str, str, str]]
    window: int
    all_correct_start: float
    all_correct_end: float
    prompts_seen: int
    prompts_raised: int
    prompts_revived: int
    temperature_max: float
    responses: int
    tokens: int
    checkpoint: Path | None


def summarize(run_folder: str | Path) -> RunSummary:
    """Summarise a run from its group log and metrics.

    Args:
        run_folder: Folder of the run.

    Raises:
        FileNotFoundError: The folder holds no run.
    """
    groups, metrics = read_groups(run_folder), read_metrics(run_folder)
    if groups.empty:
        raise FileNotFoundError(f"{run_folder} holds no group; name the folder of a run that trained.")
    # The first step of a run that goes on from another one's checkpoint is not 1.
    first, last = int(groups["step"].min()), int(groups["step"].max())
    window = max(1, min(_LONGEST_WINDOW, (last - first + 1) // 2))
    complete = groups[groups["outcome"] != "incomplete"]
    all_correct = complete["outcome"] == "all_correct"
    base = base_temperature(run_folder)
    raised = is_raised(groups["temperature"], groups["temperature"].min() if base is None else base)
    return RunSummary(
        steps=max(last, int(metrics.index.max())),
        held_out=_held_out_rows(metrics),
        window=window,
        all_correct_start=float(all_correct[complete["step"] < first + window].mean()),
        all_correct_end=float(all_correct[complete["step"] > last - window].mean()),
        prompts_seen=groups["key"].nunique(),
        prompts_raised=groups.loc[raised, "key"].nunique(),
        prompts_revived=groups.loc[groups["revived"], "key"].nunique(),
        temperature_max=float(groups["temperature"].max()),
        responses=int(groups["lengths"].map(len).sum()),
        tokens=int(groups["lengths"].map(sum).sum()),
        checkpoint=_newest_checkpoint(Path(run_folder)),
    )


def base_temperature(run_folder: str | Path) -> float | None:
    """Sampling temperature of a prompt that is not raised, by the settings in a run's folder; None without them."""
    temperature = setting(read_settings(Path(run_folder)), "actor_rollout_ref.rollout.temperature")
    return None if temperature is None else float(temperature)


def print_summary(run_folder: str | Path) -> None:
    """Print the summary of a run to the terminal, or what a run without training steps left."""
    try:
        summary = summarize(run_folder)
    except FileNotFoundError:
        _print_without_steps(Path(run_folder))
        return
    table = Table(title="ERPO run", show_header=False, title_justify="left")
    table.add_row("steps", str(summary.steps))
    for name, start, end in summary.held_out:
        table.add_row(name, f"{start} -> {end}")
    shares = f"{summary.all_correct_start:.1%} -> {summary.all_correct_end:.1%}"
    window = f"first {summary.window} steps, last {summary.window}"
    table.add_row("residual (all-correct) groups", f"{shares} ({window})")
    table.add_row("prompts seen", str(summary.prompts_seen))
    table.add_row("prompts raised", f"{summary.prompts_raised} (up to T = {summary.temperature_max:.2f})")
    table.add_row("prompts revived", str(summary.prompts_revived))
    table.add_row("generated", f"{summary.responses:,} responses, {summary.tokens:,} tokens")
    table.add_row("run folder", str(run_folder))
    if summary.checkpoint is not None:
        table.add_row("checkpoint", summary.checkpoint.name)
    # A pipe has no width of its own, and a folded path cannot be copied.
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _held_out_rows(metrics: pd.DataFrame) -> list[tuple[str, str, str]]:
    rows = []
    names = [re.fullmatch(r"erpo/val/(.+)/mean@(\d+)", name) for name in metrics.columns]
    for name in filter(None, names):
        measured = metrics[metrics[name[0]].notna()]
        values = measured.iloc[[0, -1]]
        prefix, k = f"erpo/val/{name[1]}", name[2]
        means = zip(*(values[f"{prefix}/{part}"] for part in (f"mean@{k}", "mean_low", "mean_high")), strict=True)
        first, last = (f"{mean:.1%} ({low:.1%} to {high:.1%})" for mean, low, high in means)
        once = f"not measured after step {measured.index[0]}"
        rows.append((f"{name[1]}, mean@{k} (95 % interval)", first, last if len(measured) > 1 else once))
        first, last = (f"{value:.1%}" for value in values[f"{prefix}/pass@{k}"])
        rows.append((f"{name[1]}, pass@{k}", first, last if len(measured) > 1 else once))
    accuracy = _held_out_accuracy(metrics)
    if not rows and len(accuracy):
        # A run of an earlier version.
        last = f"{accuracy.iloc[-1]:.3f}" if len(accuracy) > 1 else f"not measured after step {accuracy.index[0]}"
        rows.append(("held-out accuracy", f"{accuracy.iloc[0]:.3f}", last))
    return rows


def _print_without_steps(run_folder: Path) -> None:
    try:
        accuracy = _held_out_accuracy(read_metrics(run_folder))
    except FileNotFoundError:
        print(f"no summary: {run_folder} holds no records here; a run on another machine has them on its disk")
        return
    measured = f"held-out accuracy {accuracy.iloc[-1]:.3f}, " if len(accuracy) else ""
    print(f"{measured}no training step; run folder: {run_folder}")


def _held_out_accuracy(metrics: pd.DataFrame) -> pd.Series:
    return metrics[held_out_names(metrics.columns)].mean(axis=1).dropna()


def _newest_checkpoint(run_folder: Path) -> Path | None:
    marker = run_folder / "latest_checkpointed_iteration.txt"
    return run_folder / f"global_step_{marker.read_text().strip()}" if marker.exists() else None
