# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A table in the run folder that grows by one Parquet file for every training step.

A step's file is written whole and renamed, so a killed run leaves no half file; a resumed run first moves the steps
that it repeats out of the way (:mod:`erpo.runs.superseded`).
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

_FILE_NAME = re.compile(r"step_(\d+)\.parquet")


class StepLog:
    """Writes and reads one table; which, its sub-classes say: group log and sample log.

    Attributes:
        name: What it is called in messages.
        sub_folder: Folder of the files in the run's folder; made by the first write.
        schema: Columns.

    Args:
        run_folder: Folder of the run.
    """

    name: ClassVar[str]
    sub_folder: ClassVar[str]
    schema: ClassVar[pa.Schema]

    def __init__(self, run_folder: str | Path) -> None:
        self.run_folder = Path(run_folder)
        self.folder = self.run_folder / self.sub_folder

    def write(self, step: int, rows: Sequence[dict[str, Any]]) -> None:
        """Write the rows of ``step``; their keys are the schema's columns."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{step:06d}.parquet"
        temporary = path.with_suffix(".tmp")
        pq.write_table(pa.Table.from_pylist(list(rows), schema=self.schema), temporary, compression="zstd")
        os.replace(temporary, path)

    def read(self) -> pd.DataFrame:
        """All rows, ordered by step.

        Raises:
            FileNotFoundError: No step was written.
        """
        paths = sorted(self.folder.glob("step_*.parquet"), key=_step_of)
        if not paths:
            raise FileNotFoundError(f"{self.run_folder} holds no {self.name}; name the folder of a run that keeps one.")
        return pa.concat_tables([pq.read_table(path, schema=self.schema) for path in paths]).to_pandas()


def _step_of(path: Path) -> int:
    match = _FILE_NAME.fullmatch(path.name)
    return int(match.group(1)) if match else -1
