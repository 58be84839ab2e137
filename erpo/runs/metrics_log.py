# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""All metrics of a run, one JSON line per step, kept over a resume (verl's own file logger starts anew)."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

FILE_NAME = "metrics.jsonl"


class MetricsLog:
    """Writes ``metrics.jsonl`` in a run's folder.

    Args:
        run_folder: Folder of the run.
    """

    def __init__(self, run_folder: str | Path) -> None:
        self.path = Path(run_folder) / FILE_NAME

    def append(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Append one step; values that are no numbers are left out."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = {"step": step}
        for name, value in metrics.items():
            try:
                line[name] = float(value)  # type: ignore[assignment]
            except (TypeError, ValueError):
                continue
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def forget_after(self, step: int) -> None:
        """Remove the lines after ``step`` (and a line that a killed run left half-written)."""
        if not self.path.exists():
            return
        kept = [line for line in _lines(self.path) if line["step"] <= step]
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        os.replace(temporary, self.path)


def read_metrics(run_folder: str | Path) -> pd.DataFrame:
    """Read a run's metrics, one row per step, indexed by step.

    Raises:
        FileNotFoundError: The folder holds no metrics.
    """
    path = Path(run_folder) / FILE_NAME
    if not path.exists():
        raise FileNotFoundError(f"{run_folder} holds no {FILE_NAME}; name the folder of an ERPO run.")
    return pd.DataFrame(_lines(path)).groupby("step").last()


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = []
    for text in path.read_text().splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            # Only the last line can be half-written; a run that goes on writes its lines whole.
            break
    return lines
