# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A folder of model and data that an experiment makes for itself, once."""

import ctypes
import fcntl
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

logger = logging.getLogger(__name__)

# Sections of the settings whose key `folder` names an artefact.
ARTEFACT_SECTIONS = ("arithmetic", "word_problems")
MODEL_FOLDER = "model"
TRAIN_FILE = "train.parquet"
TEST_FILE = "test.parquet"
MANIFEST_FILE = "manifest.json"


def build_once(
    folder: Path, version: int, settings: Mapping[str, Any], build: Callable[[Path], Mapping[str, Any]]
) -> dict[str, Any]:
    """Builds an artefact in `folder`, or reuses the one that is there.

    An artefact is reused if its manifest has the same version and settings and its files are unharmed; otherwise it is
    built anew, and replaces the one that is there. It is written beside `folder` and moved there when complete, so that
    an interruption leaves nothing half-written; of several processes one builds and the others wait for it.

    Args:
        folder: Folder of the artefact, resolved. Its parents are created; a folder with other files is refused.
        version: To be raised with every change of what is built from the same settings.
        settings: What the artefact depends on, as JSON values.
        build: Writes the model's folder and the two data files into the folder that it is given, and returns what the
            manifest should hold beside the settings and the files' digests.

    Returns:
        The manifest.

    Raises:
        FileExistsError: If `folder` holds files that are not part of an artefact.
        OSError: If `folder` cannot be written.
    """
    # Before the lock too, which cannot be had where a finished artefact can only be read.
    manifest = _finished(folder, version, settings)
    if manifest is not None:
        logger.info("reusing model and data in %s", folder)
        return manifest
    with _locked(folder):
        # Another process may have built it meanwhile.
        manifest = _finished(folder, version, settings)
        if manifest is not None:
            return manifest
        _refuse_foreign_files(folder)
        logger.info("building model and data in %s", folder)
        # Under the lock nobody else builds: what is left here is from an interrupted process.
        workshop = _beside(folder, "building")
        shutil.rmtree(workshop, ignore_errors=True)
        new, old = workshop / "new", workshop / "old"
        new.mkdir(parents=True)
        try:
            manifest = {"format_version": version, "settings": dict(settings), **build(new)}
            manifest["files"] = _digests(new, sorted(str(p.relative_to(new)) for p in new.rglob("*") if p.is_file()))
            (new / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n")
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        finally:
            shutil.rmtree(workshop, ignore_errors=True)
            _return_memory()
        logger.info("built model and data in %s", folder)
        return manifest


def _return_memory() -> None:
    """Returns what training left in the allocator: the caller would hold it as long as the run, gigabytes of it."""
    # Only glibc has the function.
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


Rows = Iterable[tuple[str, str, dict[str, Any]]]


def write_data(folder: Path, data_source: str, train: Rows, test: Rows) -> None:
    """Writes the two files of problems in verl's schema.

    Args:
        folder: Folder to write to.
        data_source: Name of the set.
        train: Of each problem the question, the answer, and what its ``extra_info`` should hold besides. The prompt id
            is the question, so it is the same under all settings.
        test: Likewise, the held-out problems.
    """
    for file, split, rows in ((TRAIN_FILE, "train", train), (TEST_FILE, "test", test)):
        table: list[dict[str, Any]] = [
            {
                "data_source": data_source,
                "prompt": [{"role": "user", "content": question}],
                "ability": "math",
                "reward_model": {"style": "rule", "ground_truth": answer},
                "extra_info": {"index": index, "split": split, "prompt_id": f"{data_source}:{question}", **more},
            }
            for index, (question, answer, more) in enumerate(rows)
        ]
        pd.DataFrame(table).to_parquet(folder / file)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of `folder`; the system releases it if the process dies."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = open(_beside(folder, "lock"), "w")  # noqa: SIM115
    except OSError as error:
        raise type(error)(f"cannot write model and data to {folder}: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("waiting for another process that builds model and data in %s", folder)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _beside(folder: Path, suffix: str) -> Path:
    return folder.with_name(f".{folder.name}.{suffix}")


def _finished(folder: Path, version: int, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """Manifest of the finished artefact of these settings in `folder`, or None if there is none."""
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_text())
        same_recipe = (manifest["format_version"], manifest["settings"]) == (version, dict(settings))
        if same_recipe and manifest["files"] == _digests(folder, manifest["files"]):
            return dict(manifest)
    except (OSError, ValueError, KeyError, TypeError):
        # No manifest, a broken one, or a missing file: no finished artefact.
        pass
    return None


def _digests(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each of these files."""
    digests = {}
    for name in names:
        # hashlib.file_digest is not in Python 3.10.
        digest = hashlib.sha256()
        with (folder / name).open("rb") as file:
            while piece := file.read(2**20):
                digest.update(piece)
        digests[name] = digest.hexdigest()
    return digests


def _refuse_foreign_files(folder: Path) -> None:
    if folder.exists():
        if not folder.is_dir():
            raise FileExistsError(f"cannot write model and data to {folder}: it is not a folder")
        own = {MODEL_FOLDER, TRAIN_FILE, TEST_FILE, MANIFEST_FILE}
        foreign = sorted(path.name for path in folder.iterdir() if path.name not in own)
        if foreign:
            raise FileExistsError(
                f"{folder} holds files that no experiment made there ({foreign[0]}); choose another folder"
            )
