# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Saves a tracker to a folder and loads it back; a crash at any moment leaves the last whole state loadable.

A state is `tracker.json` and the Parquet file it names, one row per prompt: `key` (16 bytes) and the columns of the
history. Every save writes a Parquet file of its own, then replaces the JSON in one step, then drops the old Parquet.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from erpo.tracker.errors import TrackerError
from erpo.tracker.keys import KEY_BYTES, KEY_DTYPE, KeyArray
from erpo.tracker.tracker import PromptTracker

STATE_FILE = "tracker.json"
_TEMPORARY = "tracker.tmp"


def save_state(tracker: PromptTracker, folder: str | Path, extra: Mapping[str, Any] | None = None) -> None:
    """Save a tracker; the folder is made if needed, and a state already in it is replaced.

    One process at a time may save to a folder.

    Args:
        tracker: What to save.
        folder: Where to.
        extra: Plain JSON to keep with it; `load_state` returns it.

    Raises:
        TrackerError: extra is not JSON.
    """
    folder = Path(folder)
    state = tracker.state_dict()
    content = {**state["meta"], "extra": dict(extra or {})}
    try:
        json.dumps(content, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TrackerError(f"extra cannot be saved as JSON ({error}); pass strings, numbers, lists and dicts") from None

    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / _TEMPORARY
    with temporary.open("wb") as file:
        # Keys are hashes: nothing in them to compress.
        compression = {"key": "none", **{name: "zstd" for name in state["columns"]}}
        table = _to_table(state["keys"], state["columns"])
        pq.write_table(table, file, compression=compression, use_dictionary=False, write_statistics=False)
        _flush(file)
    checksum = _sha256(temporary)
    parquet = folder / f"tracker-{checksum[:16]}.parquet"
    content["parquet"] = {"file": parquet.name, "bytes": temporary.stat().st_size, "sha256": checksum}
    os.replace(temporary, parquet)
    _flush_folder(folder)

    with temporary.open("wb") as file:
        file.write(json.dumps(content, allow_nan=False, indent=2).encode())
        _flush(file)
    os.replace(temporary, folder / STATE_FILE)
    _flush_folder(folder)
    for other in folder.glob("tracker-*.parquet"):
        if other != parquet:
            other.unlink()


def load_state(
    tracker: PromptTracker,
    folder: str | Path,
    accept_changed_data: bool = False,
    accept_changed_schedule: bool = False,
) -> dict[str, Any]:
    """Load what `save_state` saved into a tracker of the same schedule.

    Args:
        tracker: Replaced in place; unchanged on error.
        folder: Where the state is.
        accept_changed_data: Load also a state that belongs to other training data.
        accept_changed_schedule: Load also a state of another schedule (see `PromptTracker.load_state_dict`).

    Returns:
        The `extra` of the save.

    Raises:
        TrackerError: the state is missing, damaged, or does not fit (see `PromptTracker.load_state_dict`).
    """
    folder = Path(folder)
    content = _read_json(folder / STATE_FILE)
    try:
        accepted = {"accept_changed_data": accept_changed_data, "accept_changed_schedule": accept_changed_schedule}
        tracker.check_meta(content, **accepted)
        keys, columns = _read_parquet(folder, content["parquet"])
        state = {"keys": keys, "columns": columns, "meta": content}
        tracker.load_state_dict(state, **accepted)
        return content["extra"]
    except (KeyError, TypeError) as error:
        raise TrackerError(
            f"{folder / STATE_FILE} is not a whole tracker state ({error!r}); restore it or choose another checkpoint"
        ) from error


def _to_table(keys: KeyArray, columns: Mapping[str, Any]) -> pa.Table:
    key_type = pa.binary(KEY_BYTES)
    key_column = pa.FixedSizeBinaryArray.from_buffers(key_type, keys.size, [None, pa.py_buffer(keys)])
    return pa.table({"key": key_column, **{name: pa.array(values) for name, values in columns.items()}})


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise TrackerError(f"there is no tracker state: {path} is missing; choose a folder that a save was made to")
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        raise TrackerError(f"{path} is not JSON, so it was damaged; choose another checkpoint") from None
    if not isinstance(content, dict):
        raise TrackerError(f"{path} does not hold a tracker state; choose another checkpoint")
    return content


def _read_parquet(folder: Path, entry: dict[str, Any]) -> tuple[KeyArray, dict[str, Any]]:
    """Read keys and columns from the file that the JSON's `parquet` entry names."""
    path = folder / entry["file"]
    if not path.is_file():
        raise TrackerError(f"{path}, which {STATE_FILE} names, is missing; restore it or choose another checkpoint")
    size, wanted = path.stat().st_size, entry["bytes"]
    if size != wanted:
        raise TrackerError(f"{path} has {size} bytes instead of {wanted}, so it was cut; choose another checkpoint")
    if _sha256(path) != entry["sha256"]:
        raise TrackerError(f"{path} does not match its checksum, so it was damaged; choose another checkpoint")
    table = pq.read_table(path).combine_chunks()
    key_column = table.column("key").combine_chunks()
    keys = np.frombuffer(key_column.buffers()[1], dtype=KEY_DTYPE, count=len(key_column))
    columns = {name: table.column(name).to_numpy() for name in table.column_names if name != "key"}
    return keys, columns


def _sha256(path: Path) -> str:
    checksum = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 22):
            checksum.update(piece)
    return checksum.hexdigest()


def _flush(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make renames inside the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
