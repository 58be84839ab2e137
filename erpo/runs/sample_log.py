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
"""The sample log: a few responses to read, one Parquet file for every training step that has any.

Kept like the group log: a step's file is written whole and renamed, a resumed run overwrites the steps that it repeats.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

# One row per response. `key` and `step` are the group log's, `outcome` is the kind of the response's group, `length` is
# in tokens; `prompt` and `response` are text without special tokens.
SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("key", pa.string()),
        ("prompt", pa.string()),
        ("temperature", pa.float32()),
        ("response", pa.string()),
        ("correct", pa.bool_()),
        ("truncated", pa.bool_()),
        ("length", pa.int32()),
        ("outcome", pa.string()),
    ],
    metadata={"erpo_sample_log": "1"},
)


class SampleLog:
    """Writes the sample log of one run.

    Args:
        run_folder: Folder of the run; the log lies in its sub-folder ``samples``.
    """

    def __init__(self, run_folder: str | Path) -> None:
        self.folder = Path(run_folder) / "samples"

    def write(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the responses kept in ``step``; columns as in :data:`SCHEMA`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{step:06d}.parquet"
        temporary = path.with_suffix(".tmp")
        pq.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), temporary, compression="zstd")
        os.replace(temporary, path)

    def forget_after(self, step: int) -> None:
        """Remove the steps after ``step``: a resumed run does them again."""
        for path in self.folder.glob("step_*.parquet"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()


def read_samples(run_folder: str | Path) -> pd.DataFrame:
    """Read the sample log of a run, one row per response, ordered by step.

    Raises:
        FileNotFoundError: The folder holds no sample log.
    """
    # Step numbers beyond six digits make longer names, which sort by length first.
    paths = sorted((Path(run_folder) / "samples").glob("step_*.parquet"), key=lambda path: (len(path.name), path.name))
    if not paths:
        raise FileNotFoundError(f"{run_folder} holds no sample log; name the folder of a run that keeps samples.")
    return pa.concat_tables([pq.read_table(path, schema=SCHEMA) for path in paths]).to_pandas()
