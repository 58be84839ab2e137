# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Stopping a run at the next step boundary: the wish is a file in the run's folder, and so is the answer.

The process that gets the signal is not the one that trains; the folder is what both of them see.
"""

from pathlib import Path

from erpo.runs.files import write_whole

_REQUEST = "stop_requested"
_ANSWER = "stopped"


def request(run_folder: Path) -> None:
    """Ask the run to save and end."""
    write_whole(run_folder / _REQUEST, b"")


def requested(run_folder: Path) -> bool:
    """Whether the run was asked to."""
    return (run_folder / _REQUEST).exists()


def answer(run_folder: Path, step: int) -> None:
    """Say that the run saved ``step`` and ended there, because it was asked to."""
    write_whole(run_folder / _ANSWER, str(step).encode())


def stopped_at(run_folder: Path) -> int | None:
    """Step of the answer; None if the run was not asked, or had nothing left to do."""
    path = run_folder / _ANSWER
    return int(path.read_text()) if path.exists() else None


def forget(run_folder: Path) -> None:
    """Remove wish and answer of an earlier start."""
    for name in (_REQUEST, _ANSWER):
        (run_folder / name).unlink(missing_ok=True)
