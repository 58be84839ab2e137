# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""All metrics of a run, one JSON line per step, kept over a resume (verl's own file logger starts anew)."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from erpo.runs.files import write_whole

FILE_NAME = "metrics.jsonl"


class MetricsLog:
    """Writes ``metrics.jsonl`` in a run's folder.

    Args:
        run_folder: Folder of the run.
    """

    def __init__(self, run_folder: str | Path) -> None:
        self.path = Path(run_folder) / FILE_NAME

    def append(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one step, durably; values that are no numbers are left out.

        A step has one line: what is appended to the last step again joins it.
        """
        line = {"step": step}
        for name, value in metrics.items():
            try:
                line[name] = float(value)  # type: ignore[assignment]
            except (TypeError, ValueError):
                continue
        content = self.path.read_bytes() if self.path.exists() else b""
        start = content.rstrip(b"\n").rfind(b"\n") + 1
        last = _parse(content[start:])
        if last is not None and last["step"] == step:
            write_whole(self.path, content[:start] + _dump({**last, **line}))
            return
        # A killed run can leave half a line.
        torn = content and not content.endswith(b"\n")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write((b"\n" if torn else b"") + _dump(line))
            file.flush()
            os.fsync(file.fileno())

    def move_after(self, step: int, folder: Path) -> None:
        """Move the lines after ``step`` (and what a killed run left half-written) to a log in another folder."""
        kept: dict[int, dict[str, Any]] = {}
        moved = []
        for text in self.path.read_bytes().splitlines() if self.path.exists() else []:
            line = _parse(text)
            if line is None or line["step"] > step:
                moved.append(text + b"\n")
            else:
                kept.setdefault(line["step"], {}).update(line)
        if moved:
            # Twice in a crash between the two is better than not at all.
            write_whole(folder / FILE_NAME, b"".join(moved))
            write_whole(self.path, b"".join(_dump(line) for line in kept.values()))

    def read_step(self, step: int) -> dict[str, float]:
        """Metrics of one step; empty if it has none."""
        merged: dict[str, float] = {}
        for line in _lines(self.path) if self.path.exists() else []:
            if line["step"] == step:
                merged.update(line)
        return merged


def read_metrics(run_folder: str | Path) -> pd.DataFrame:
    """Read a run's metrics, one row per step, indexed by step.

    Raises:
        FileNotFoundError: The folder holds no metrics.
    """
    path = Path(run_folder) / FILE_NAME
    lines = _lines(path) if path.exists() else []
    if not lines:
        raise FileNotFoundError(f"{run_folder} holds no {FILE_NAME}; name the folder of an ERPO run.")
    return pd.DataFrame(lines).groupby("step").last()


def held_out_names(names: Iterable[str]) -> list[str]:
    """Names of the metrics whose mean is the held-out accuracy: mean@k of each set.

    verl's own are taken where there are no others, as in a run of an earlier version: they are mean rewards where the
    reward function returns no ``acc``.

    Args:
        names: Names of a run's metrics.
    """
    names = list(names)
    ours = [name for name in names if re.fullmatch(r"erpo/val/.+/mean@\d+", name)]
    return ours or [name for name in names if name.startswith("val-core/") and "/mean@" in name]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [line for text in path.read_bytes().splitlines() if (line := _parse(text)) is not None]


def _parse(text: bytes) -> dict[str, Any] | None:
    """The line; None for one that a killed run left half-written."""
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and isinstance(line.get("step"), int) else None


def _dump(line: Mapping[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"
