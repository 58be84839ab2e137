# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A run that goes on from an earlier step repeats steps: what it recorded of them before is kept, out of the way.

Nothing in a run's folder is deleted. Records and checkpoints of later steps move to ``superseded/TIME/``, in the order
in which a crash between two moves leaves a folder that the next start can tidy up likewise.
"""

import os
import re
import time
from pathlib import Path

from erpo.runs.files import write_whole
from erpo.runs.metrics_log import MetricsLog

FOLDER = "superseded"
MARKER = "latest_checkpointed_iteration.txt"
FROM_SCRATCH = -1

_STEP = re.compile(r"(?:global_)?step_(\d+)(?:\.parquet)?")


def new_superseded(run_folder: Path) -> Path:
    """A folder below ``superseded`` that does not exist yet, named by the time; it is not made."""
    name = time.strftime("%Y%m%d-%H%M%S")
    folder, number = run_folder / FOLDER / name, 2
    while folder.exists():
        folder, number = run_folder / FOLDER / f"{name}-{number}", number + 1
    return folder


def move(path: Path, run_folder: Path, superseded: Path) -> None:
    """Move a file or folder of the run to the same place below ``superseded``."""
    target = superseded / path.relative_to(run_folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(path, target)


def supersede(run_folder: str | Path, after: int, superseded: Path | None = None) -> Path | None:
    """Move the records and checkpoints of the steps after ``after`` out of the way.

    Args:
        run_folder: Folder of the run.
        after: Last step that stays; :data:`FROM_SCRATCH`: nothing stays, the validation before step 1 neither.
        superseded: Where to, a folder of :func:`new_superseded`; None makes one.

    Returns:
        The folder that they lie in now, None if there were none.
    """
    run_folder = Path(run_folder)
    superseded = superseded or new_superseded(run_folder)
    marker = run_folder / MARKER
    # The marker first: while it names a later step, the next start would go on with the pass that ends here.
    if marker.exists() and _number(marker.read_text()) > after:
        kept = run_folder / f"global_step_{after}"
        copy = superseded / MARKER
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_whole(copy, marker.read_bytes())
        if kept.is_dir():
            write_whole(marker, str(after).encode())
        else:
            marker.unlink()
    for pattern in ("global_step_*", "groups/step_*.parquet", "samples/step_*.parquet"):
        for path in sorted(run_folder.glob(pattern)):
            match = _STEP.fullmatch(path.name)
            if match and int(match.group(1)) > after:
                move(path, run_folder, superseded)
    MetricsLog(run_folder).move_after(after, superseded)
    return superseded if superseded.exists() else None


def supersede_dumps(folder: str | Path, after: int) -> None:
    """Likewise for verl's own dumps of responses, ``STEP.jsonl`` in a folder anywhere."""
    folder = Path(folder)
    superseded = new_superseded(folder)
    for path in sorted(folder.glob("*.jsonl")):
        if path.stem.isdigit() and int(path.stem) > after:
            move(path, folder, superseded)


def holds_records(run_folder: Path) -> bool:
    """Whether an earlier pass recorded anything that a run from scratch would supersede."""
    return MetricsLog(run_folder).path.exists() or any(run_folder.glob("groups/step_*.parquet"))


def _number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0
