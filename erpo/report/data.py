# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A run folder as data frames, and the steps that the report averages over."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from omegaconf import DictConfig

from erpo.runs.group_log import read_groups
from erpo.runs.metrics_log import held_out_names, read_metrics
from erpo.runs.sample_log import read_samples
from erpo.runs.settings import read_settings, run_names, setting
from erpo.tracker import PromptTracker, TrackerConfig, TrackerError, is_raised, key_hex, prompt_key
from erpo.tracker.storage import STATE_FILE, load_state

KINDS = ("all_correct", "mixed", "all_wrong")
# Points of a curve: one step of a small run has too few groups for a share.
_POINTS = 20


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        name: What the report calls it: its method, with the folder's name where two runs share a method.
        folder: Its folder.
        groups: Complete groups in the order of steps: the columns of the group log, and ``raised`` (sampled above the
            base temperature), ``previous`` (outcome of the prompt's previous visit, None at its first) and ``epoch``.
        metrics: One row per step, indexed by step; empty if there are none yet.
        samples: The sample log; None if the run keeps none.
        tracker: The newest checkpoint's prompt history, one prompt a row; None if there is no checkpoint.
        tracker_step: The step of that checkpoint.
        base: Temperature of a prompt that is not raised; NaN if neither settings nor groups tell.
        cap: Highest temperature of the schedule; None if it has none.
        texts: Key -> text of the prompts that were sampled, of those that the training files still hold.
    """

    name: str
    folder: Path
    groups: pd.DataFrame
    metrics: pd.DataFrame
    samples: pd.DataFrame | None
    tracker: pd.DataFrame | None
    tracker_step: int
    base: float
    cap: float | None
    texts: dict[str, str]

    @property
    def last_step(self) -> int:
        """Last step with a finished group, 0 before the first."""
        return int(self.groups["step"].max()) if len(self.groups) else 0

    def metric(self, name: str) -> pd.Series:
        """A metric by step, without the steps that lack it."""
        return self.metrics[name].dropna() if name in self.metrics else pd.Series(dtype=float)

    def held_out_accuracy(self) -> pd.Series:
        """Mean of the held-out accuracies by step."""
        return self.metrics[held_out_names(self.metrics.columns)].mean(axis=1).dropna()

    def tokens(self) -> pd.Series:
        """Tokens generated in this run by step; a run that went on from another one's checkpoint counted those, too."""
        tokens = self.metric("erpo/generated/tokens")
        if not len(tokens) or not len(self.groups) or self.groups["step"].min() <= 1:
            return tokens
        of_first = self.groups.loc[self.groups["step"] <= tokens.index[0], "lengths"].map(sum).sum()
        return tokens - (tokens.iloc[0] - of_first)

    def tokens_at(self, steps: pd.Series) -> pd.Series:
        """Tokens generated up to and with each of these steps; NaN where no metrics tell."""
        tokens = self.tokens()
        before = pd.Series({0: 0.0})
        known = pd.concat([before, tokens]) if len(tokens) else pd.Series(np.nan, index=[0])
        return known.reindex(steps.to_numpy(), method="ffill").set_axis(steps.index)


def load_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read run folders.

    Raises:
        FileNotFoundError: A folder is not one of a run.
        ValueError: A folder is named twice, or its settings cannot be read.
    """
    paths = [Path(folder) for folder in folders]
    if len({path.resolve() for path in paths}) < len(paths):
        raise ValueError("a run folder is named twice; name each run once.")
    settings = [_settings(path) for path in paths]
    return [_load(*arguments) for arguments in zip(run_names(paths), paths, settings, strict=True)]


def _settings(folder: Path) -> DictConfig:
    if not any((folder / name).exists() for name in ("config.yaml", "groups", "metrics.jsonl")):
        raise FileNotFoundError(f"{folder} is not the folder of an ERPO run; name one that holds config.yaml.")
    return read_settings(folder)


def _load(name: str, folder: Path, config: DictConfig) -> Run:
    metrics = _or_none(read_metrics, folder)
    metrics = pd.DataFrame(index=pd.Index([], name="step")) if metrics is None else metrics
    groups = _or_none(read_groups, folder)
    groups = pd.DataFrame() if groups is None else groups[groups["outcome"].isin(KINDS)].reset_index(drop=True)
    schedule = setting(config, "erpo.schedule.name") or "none"
    section = "own" if setting(config, "erpo.schedule.path") else schedule
    cap = setting(config, f"erpo.schedule.{section}.t_max")
    base = setting(config, "actor_rollout_ref.rollout.temperature")
    if base is None:
        base = groups["temperature"].min() if len(groups) else np.nan
    if len(groups):
        groups["temperature"] = groups["temperature"].astype(float).round(4)
        groups["raised"] = is_raised(groups["temperature"], float(base))
        groups["previous"] = groups.groupby("key")["outcome"].shift()
        groups["epoch"] = _epochs(groups["step"], metrics)
    tracker, tracker_step = _newest_tracker(folder)
    return Run(
        name=name,
        folder=folder,
        groups=groups,
        metrics=metrics,
        samples=_or_none(read_samples, folder),
        tracker=tracker,
        tracker_step=tracker_step,
        base=float(base),
        cap=None if cap is None else float(cap),
        texts=_prompt_texts(config, set(groups["key"])) if len(groups) else {},
    )


def _prompt_texts(config: DictConfig, keys: set[str]) -> dict[str, str]:
    """Texts of prompts from the Parquet files that the run was trained on, where they can be read."""
    files = setting(config, "data.train_files") or []
    column = setting(config, "data.prompt_key") or "prompt"
    texts: dict[str, str] = {}
    for file in [files] if isinstance(files, str) else files:
        try:
            present = pq.read_schema(Path(str(file)).expanduser()).names
            names = [name for name in ("data_source", column, "extra_info") if name in present]
            for row in pq.read_table(Path(str(file)).expanduser(), columns=names).to_pylist():
                prompt_id = (row.get("extra_info") or {}).get("prompt_id")
                key = key_hex(prompt_key(str(row.get("data_source", "")), row[column], prompt_id))
                if key in keys:
                    texts[key] = _text(row[column])
        # Moved, changed or of another format since: the report does without.
        except (OSError, KeyError, TypeError, ValueError, AttributeError):
            continue
    return texts


def _text(prompt: Any) -> str:
    """The last message of a prompt, without its images."""
    content = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    if isinstance(content, str):
        return content
    return " ".join(str(part["text"]) for part in content if part.get("text"))


def _or_none(read: Any, folder: Path) -> pd.DataFrame | None:
    """What a log's reader returns; None where the run has written none, or no line of it, yet."""
    try:
        return read(folder)
    except FileNotFoundError:
        return None
    except KeyError:
        # read_metrics of a file without a whole line.
        return None


def _epochs(steps: pd.Series, metrics: pd.DataFrame) -> pd.Series:
    """Epoch of each step, from 1. The newest step has groups before it has metrics: it takes the epoch before it."""
    if "training/epoch" not in metrics:
        return pd.Series(1, index=steps.index)
    epochs = metrics["training/epoch"].dropna()
    found = epochs.reindex(np.sort(steps.unique()), method="ffill").fillna(0).astype(int) + 1
    return steps.map(found)


def _newest_tracker(folder: Path) -> tuple[pd.DataFrame | None, int]:
    """The newest tracker state that is whole: a run that is going may be writing one, or removing an old one."""
    states = {
        path.parent.parent.name.removeprefix("global_step_"): path
        for path in folder.glob(f"global_step_*/erpo/{STATE_FILE}")
    }
    # A copy of a checkpoint, global_step_5.bak, is none.
    for step, path in sorted(((int(step), path) for step, path in states.items() if step.isdecimal()), reverse=True):
        try:
            content = json.loads(path.read_bytes())
            # A report runs no code that a run's folder names: of a schedule of the user's own it reads the outcomes.
            own = content["settings"].get("path") is not None
            config = TrackerConfig("none") if own else TrackerConfig.from_dict(content["settings"])
            tracker = PromptTracker(config, data_fingerprint=content["data_fingerprint"])
            load_state(tracker, path.parent, accept_changed_schedule=own)
            return tracker.frame(), step
        except (OSError, AttributeError, KeyError, TypeError, ValueError, TrackerError):
            continue
    return None, 0


@dataclass(frozen=True)
class Steps:
    """The points of all curves: neighbouring steps that are taken together, the same for every run.

    Attributes:
        width: Steps in one point.
    """

    width: int

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Steps":
        """About twenty points for the longest run."""
        return cls(max(1, -(-max(run.last_step for run in runs) // _POINTS)))

    def last_of(self, steps: pd.Series, last_step: int) -> pd.Series:
        """The last step of the point that each step belongs to; the run's last point may be shorter."""
        return ((steps - 1) // self.width * self.width + self.width).clip(upper=last_step)

    def combine(self, values: pd.Series, last_step: int, how: str = "mean") -> pd.Series:
        """A series by step, taken together by point ("mean", "max", "sum") and indexed by the point's last step.

        Step 0, the validation before the training, belongs to no point.
        """
        values = values[(values.index >= 1) & (values.index <= last_step)]
        steps = pd.Series(values.index, index=values.index, dtype=int)
        return values.groupby(self.last_of(steps, last_step)).agg(how)

    def label(self, last: int) -> str:
        """A point in words: "4-6"."""
        first = (last - 1) // self.width * self.width + 1
        return str(last) if first == last else f"{first}-{last}"
