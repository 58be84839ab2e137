# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Samples on disk: a folder that an interrupted evaluation goes on in, and that only one evaluation may use.

``settings.json`` says what the folder holds; responses come in chunk files, written whole and renamed; a part that is
complete moves into ``samples.parquet``.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from erpo.evaluation.config import EvaluationError

SAMPLES_FILE = "samples.parquet"
SETTINGS_FILE = "settings.json"

SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("key", pa.string()),
        ("data_source", pa.string()),
        ("prompt", pa.string()),
        ("ground_truth", pa.string()),
        ("sample", pa.int32()),
        ("seed", pa.int64()),
        ("temperature", pa.float64()),
        ("response", pa.string()),
        ("length", pa.int32()),
        ("truncated", pa.bool_()),
        ("score", pa.float64()),
        ("accuracy", pa.float64()),
        ("correct", pa.bool_()),
        ("answer", pa.string()),
    ],
    metadata={"erpo_samples": "1"},
)


class SampleStore:
    """The folder of one evaluation.

    Args:
        folder: Folder of the results.
        settings: What every sample in it depends on, as JSON values.
        parts: What the parts of this call depend on, by name. Other parts that the folder holds already stay.

    Raises:
        EvaluationError: The folder holds samples of other settings, or other files.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], parts: Mapping[str, Mapping[str, Any]]) -> None:
        self.folder = folder
        held = self._held()
        if held is None:
            self._refuse_foreign_files()
        else:
            _refuse_other(folder, "", held["settings"], settings)
            for name in parts:
                # A part of which nothing was sampled yet is free to change.
                if name in held["parts"] and (self.has_chunk(name, 0) or self.is_complete(name)):
                    _refuse_other(folder, f"{name} with ", held["parts"][name], parts[name])
        all_parts = {**(held["parts"] if held else {}), **{name: dict(part) for name, part in parts.items()}}
        self._settings = json.dumps({"settings": dict(settings), "parts": all_parts}, indent=2) + "\n"

    def is_complete(self, part: str) -> bool:
        """Whether the part is in ``samples.parquet``."""
        return part in self._complete_parts()

    def has_chunk(self, part: str, number: int) -> bool:
        """Whether a chunk was written."""
        return self._chunk(part, number).exists()

    def write_chunk(self, part: str, number: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write the samples of one chunk; columns as in :data:`SCHEMA`, without ``part``."""
        path = self._chunk(part, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Before the samples, which are worth nothing without it, and not earlier: what fails before leaves no folder.
        write_whole(self.folder / SETTINGS_FILE, self._settings)
        _write_table(path, pa.Table.from_pylist([{"part": part, **row} for row in rows], schema=SCHEMA))

    def complete(self, part: str, chunks: int) -> None:
        """Move the chunks of a part into ``samples.parquet``."""
        tables = [pq.read_table(self._chunk(part, number), schema=SCHEMA) for number in range(chunks)]
        if (self.folder / SAMPLES_FILE).exists():
            tables.insert(0, pq.read_table(self.folder / SAMPLES_FILE, schema=SCHEMA))
        _write_table(self.folder / SAMPLES_FILE, pa.concat_tables(tables))
        shutil.rmtree(self._chunk(part, 0).parent)

    def read(self) -> pd.DataFrame:
        """All samples of the complete parts."""
        return read_samples(self.folder)

    def _complete_parts(self) -> set[str]:
        path = self.folder / SAMPLES_FILE
        return set(pq.read_table(path, columns=["part"])["part"].unique().to_pylist()) if path.exists() else set()

    def _chunk(self, part: str, number: int) -> Path:
        return self.folder / "chunks" / part / f"{number:06d}.parquet"

    def _held(self) -> dict[str, Any] | None:
        path = self.folder / SETTINGS_FILE
        try:
            held = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise EvaluationError(
                f"{path} cannot be read; remove {self.folder} or set out= to another folder."
            ) from error
        if not {"settings", "parts"} <= held.keys():
            raise EvaluationError(f"{path} belongs to something else; set out= to another folder.")
        return dict(held)

    def _refuse_foreign_files(self) -> None:
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise EvaluationError(f"{self.folder} holds other files; set out= to another folder.")


def read_samples(folder: Path) -> pd.DataFrame:
    """Samples of an evaluation, one row each; columns as in :data:`SCHEMA`."""
    return pq.read_table(folder / SAMPLES_FILE, schema=SCHEMA).to_pandas()


def write_whole(path: Path, text: str) -> None:
    """Write a text file beside its place and rename it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def _write_table(path: Path, table: pa.Table) -> None:
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary, compression="zstd")
    os.replace(temporary, path)


def _refuse_other(folder: Path, what: str, held: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in dict.fromkeys([*held, *wanted]):
        if held.get(name) != wanted.get(name):
            raise EvaluationError(
                f"{folder} holds an evaluation of {what}{name}={held.get(name)}, not {wanted.get(name)}; "
                "set out= to another folder, or remove that one."
            )
