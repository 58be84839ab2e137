# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Samples on disk: a folder that an interrupted evaluation goes on in, and that only one evaluation may use.

``settings.json`` says what the folder holds; responses come in chunk files, written whole and renamed; a part that is
complete moves into ``samples.parquet``. Verdicts are filled in afterwards, and anew when the reward function changes:
no response is sampled again for that.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from erpo.evaluation.config import EvaluationError

SAMPLES_FILE = "samples.parquet"
SETTINGS_FILE = "settings.json"
# Of the folder; raise it when an older one cannot be gone on with.
FORMAT = 2
# What judging fills in: the set's file may have other answers by then.
_JUDGED = ("data_source", "ground_truth", "score", "accuracy", "correct", "answer", "error", "judge")

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
        # Why the response could not be judged; null if it was.
        ("error", pa.string()),
        # What the verdict depends on (scorer.fold); null where there is none yet.
        ("judge", pa.string()),
        # Mean probability outside the top 20 tokens; null where it was not measured, and in older files.
        ("tail_mass", pa.float64()),
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
        self._content: dict[str, Any] = {
            "format": FORMAT,
            "settings": dict(settings),
            "parts": {**(held["parts"] if held else {}), **{name: dict(part) for name, part in parts.items()}},
            "judging": held["judging"] if held else {},
        }

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
        self._write_settings()
        _write_table(path, pa.Table.from_pylist([{"part": part, **row} for row in rows], schema=SCHEMA))

    def complete(self, part: str, chunks: int) -> None:
        """Move the chunks of a part into ``samples.parquet``."""
        tables = [pq.read_table(self._chunk(part, number), schema=SCHEMA) for number in range(chunks)]
        if (self.folder / SAMPLES_FILE).exists():
            tables.insert(0, pq.read_table(self.folder / SAMPLES_FILE, schema=SCHEMA))
        _write_table(self.folder / SAMPLES_FILE, pa.concat_tables(tables))
        shutil.rmtree(self._chunk(part, 0).parent)

    def judges(self, part: str) -> set[str | None]:
        """What the verdicts of a complete part depend on; holds None if some are missing."""
        table = pq.read_table(self.folder / SAMPLES_FILE, schema=SCHEMA, columns=["part", "judge"])
        return set(table.filter(pc.equal(table["part"], part))["judge"].to_pylist())

    def responses(self, part: str) -> list[dict[str, Any]]:
        """Key and response of every sample of a complete part."""
        table = pq.read_table(self.folder / SAMPLES_FILE, columns=["part", "key", "response"])
        return list(table.filter(pc.equal(table["part"], part)).to_pylist())

    def write_verdicts(self, part: str, verdicts: Sequence[Mapping[str, Any]], judging: Mapping[str, Any]) -> None:
        """Fill in the verdicts of a complete part, in the order of :meth:`responses`.

        Args:
            part: Name of the part.
            verdicts: The judged columns of each sample.
            judging: What to show a reader of the settings about how they were judged.
        """
        table = pq.read_table(self.folder / SAMPLES_FILE, schema=SCHEMA)
        places = [place for place, name in enumerate(table["part"].to_pylist()) if name == part]
        for name in _JUDGED:
            column = table[name].to_pylist()
            for place, verdict in zip(places, verdicts, strict=True):
                column[place] = verdict[name]
            field = SCHEMA.field(name)
            table = table.set_column(SCHEMA.get_field_index(name), field, pa.array(column, type=field.type))
        _write_table(self.folder / SAMPLES_FILE, table)
        self._content["judging"][part] = dict(judging)
        self._write_settings()

    def read(self) -> pd.DataFrame:
        """All samples of the parts that were judged."""
        samples = read_samples(self.folder)
        return samples[samples["judge"].notna()].reset_index(drop=True)

    def judged_otherwise(self, judging: Mapping[str, Any]) -> list[str]:
        """Parts whose verdicts were given in another way."""
        return [name for name, of_part in self._content["judging"].items() if of_part != dict(judging)]

    def _write_settings(self) -> None:
        write_whole(self.folder / SETTINGS_FILE, json.dumps(self._content, indent=2) + "\n")

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
        if not isinstance(held, dict) or not {"settings", "parts"} <= held.keys():
            raise EvaluationError(f"{path} belongs to something else; set out= to another folder.")
        if held.get("format") != FORMAT:
            raise EvaluationError(
                f"{self.folder} holds an evaluation of another version of this program; set out= to another folder."
            )
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
