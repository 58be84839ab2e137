# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The group log: one Parquet file of finished groups for every training step.

A step's file is written whole and renamed, so a killed run leaves no half file, and a resumed run overwrites the steps
that it repeats.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("key", pa.string()),
        ("temperature", pa.float32()),
        ("n", pa.int32()),
        ("correct", pa.int32()),
        ("accuracy", pa.float32()),
        ("lengths", pa.list_(pa.int32())),
        ("truncated", pa.int32()),
        ("outcome", pa.string()),
        ("revived", pa.bool_()),
        ("dropped", pa.bool_()),
        # Over the group's tokens; null where it was not trained on, or the trainer recomputed no log-probs.
        ("entropy", pa.float32()),
        ("probs_diff_mean", pa.float32()),
        ("probs_diff_max", pa.float32()),
    ],
    metadata={"erpo_group_log": "1"},
)

_FILE_NAME = re.compile(r"step_(\d+)\.parquet")


class GroupLog:
    """Writes the group log of one run.

    Args:
        run_folder: Folder of the run; the log lies in its sub-folder ``groups``.
    """

    def __init__(self, run_folder: str | Path) -> None:
        self.folder = Path(run_folder) / "groups"

    def write(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the groups that left the replay buffer in ``step``; columns as in :data:`SCHEMA`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{step:06d}.parquet"
        temporary = path.with_suffix(".tmp")
        pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), temporary, compression="zstd")
        os.replace(temporary, path)

    def forget_after(self, step: int) -> None:
        """Remove the steps after ``step``: a resumed run does them again."""
        for path in self.folder.glob("step_*.parquet"):
            if _step_of(path) > step:
                path.unlink()


def read_groups(run_folder: str | Path) -> pd.DataFrame:
    """Read the group log of a run, one row per finished group, ordered by step.

    Raises:
        FileNotFoundError: The folder holds no group log.
    """
    paths = sorted((Path(run_folder) / "groups").glob("step_*.parquet"), key=_step_of)
    if not paths:
        raise FileNotFoundError(f"{run_folder} holds no group log; name the folder of an ERPO run.")
    return pa.concat_tables([pq.read_table(path, schema=SCHEMA) for path in paths]).to_pandas()


def _step_of(path: Path) -> int:
    match = _FILE_NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1
