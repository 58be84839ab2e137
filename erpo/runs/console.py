# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The terminal of a run whose processes print nothing: a progress bar and one line a step, from the run folder."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

LINES_FILE = "console.log"
_LOOK_EVERY = 0.5  # seconds


def write_line(run_folder: str | Path, line: str) -> None:
    """Append a line for :func:`follow` to show."""
    with (Path(run_folder) / LINES_FILE).open("a") as file:
        file.write(line + "\n")


@contextmanager
def follow(run_folder: str | Path, total_steps: int | None) -> Iterator[None]:
    """Show new lines of a run, and how far it is, while the block runs.

    Args:
        run_folder: Folder of the run; lines that it holds already are not shown.
        total_steps: Steps of the whole run; None if only the epochs are set.
    """
    path = Path(run_folder) / LINES_FILE
    shown = len(_lines(path))
    stop = threading.Event()
    # The block may redirect sys.stdout; a pipe has no width of its own.
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)
    progress = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=console
    )
    task = progress.add_task("starting Ray, FSDP2 and vLLM (about two minutes)", total=total_steps)
    console.print("starting Ray, FSDP2 and vLLM (about two minutes)")

    def show() -> None:
        nonlocal shown
        for line in _lines(path)[shown:]:
            shown += 1
            progress.console.print(line, markup=False)
            if line.startswith("step "):
                step, total = (int(number) for number in line.split()[1].split("/"))
                progress.update(task, completed=step, total=total, description=f"training, {line.split(' |')[0]}")

    def watch() -> None:
        while not stop.wait(_LOOK_EVERY):
            show()

    watcher = threading.Thread(target=watch, daemon=True)
    with progress:
        watcher.start()
        try:
            yield
        finally:
            stop.set()
            watcher.join()
            show()


def _lines(path: Path) -> list[str]:
    # Only whole lines: the writer may be in the middle of one.
    return path.read_text().split("\n")[:-1] if path.exists() else []
