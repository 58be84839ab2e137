# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Loads the rows of a set from the Hugging Face hub or from local files, both through the library `datasets`."""

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import datasets

from erpo.datasets import json_rows
from erpo.datasets.catalog import MathSet
from erpo.datasets.errors import DataError

HUB = "hub"
ENDINGS = (*json_rows.SUFFIXES, ".parquet")
Rows: TypeAlias = datasets.Dataset | json_rows.JsonRows


def load(math_set: MathSet, split: str, source: str) -> Rows:
    """Rows of one split, memory-mapped from the library's cache; those of local JSON files in memory.

    Args:
        math_set: The set.
        split: One of its splits.
        source: `HUB`, a file (.jsonl, .json, .parquet), or a folder laid out as the hub's repository.

    Raises:
        DataError: The hub cannot be reached, or the source is not there or not of this set.
    """
    return _from_hub(math_set, split) if source == HUB else _from_disk(math_set, split, Path(source))


def describe(math_set: MathSet, split: str, source: str) -> dict[str, Any]:
    """What names the content of a source: a commit on the hub, or a hash of local files.

    Raises:
        DataError: A local source is not there.
    """
    if source == HUB:
        where = {"config": math_set.configs[0], "split": math_set.splits[split]}
        return {"hub": math_set.hub, "revision": math_set.revision, **where}
    return describe_local(Path(source), f"give a file, a folder, or '{HUB}'")


def describe_local(path: Path, advice: str) -> dict[str, Any]:
    """Path and hash of a file or folder.

    Raises:
        DataError: It is not there; the message ends with the advice.
    """
    if not path.exists():
        raise DataError(f"the source {path} is not there; {advice}")
    files = [path] if path.is_file() else sorted(_visible_files(path))
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.relative_to(path)} {file_sha256(file)}\n".encode())
    return {"path": str(path.resolve()), "sha256": digest.hexdigest()}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file of any size, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _visible_files(folder: Path) -> Iterator[Path]:
    """Files outside .git and .cache, which a download leaves beside the data."""
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden:
            yield path


def _from_hub(math_set: MathSet, split: str) -> datasets.Dataset:
    repository, revision = math_set.hub, math_set.revision
    try:
        with quiet():
            return datasets.load_dataset(
                repository, math_set.configs[0], split=math_set.splits[split], revision=revision
            )
    # The library, its hub client and its HTTP client each have errors of their own for one and the same thing.
    except Exception as error:
        raise DataError(not_loaded(repository, revision, error)) from error


def not_loaded(repository: str, revision: str | None, error: Exception) -> str:
    """Sentence of an error for a hub set that cannot be loaded."""
    at = f" --revision {revision}" if revision else ""
    return (
        f"cannot load {repository} from the Hugging Face hub ({first_line(error)}); without a connection, run "
        f"`hf download {repository} --repo-type dataset{at} --local-dir FOLDER` elsewhere and give --source FOLDER"
    )


def _from_disk(math_set: MathSet, split: str, path: Path) -> Rows:
    if not path.is_dir() and path.suffix not in ENDINGS:
        raise DataError(f"the source {path} must end in one of {', '.join(ENDINGS)}, or be a folder")
    try:
        if path.suffix in json_rows.SUFFIXES and path.is_file():
            return _read_json(math_set, [path])
        with quiet():
            if not path.is_dir():
                found = datasets.load_dataset("parquet", data_files=str(path))
                return _pick_split(math_set, split, path, found)
            config = _config(math_set, path)
            chosen = _pick_split(math_set, split, path, splits_of_folder(path, config))
            return _read_json(math_set, [Path(file) for file in chosen]) if isinstance(chosen, list) else chosen
    except DataError:
        raise
    # StopIteration, ArrowInvalid, DatasetGenerationError and more, for a file that is empty or broken.
    except Exception as error:
        raise DataError(
            f"cannot read {math_set.name} from {path} ({first_line(error)}); give a file or a folder with its rows"
        ) from error


def splits_of_folder(folder: Path, config: str) -> Mapping[str, Any]:
    """Split -> its rows, or its files where these are JSON."""
    files = datasets.load_dataset_builder(str(folder), config).config.data_files or {}
    if files and all(Path(file).suffix in json_rows.SUFFIXES for of_split in files.values() for file in of_split):
        return {str(split): list(of_split) for split, of_split in files.items()}
    found: Mapping[str, Any] = datasets.load_dataset(str(folder), config)
    return found


def _read_json(math_set: MathSet, files: Sequence[Path]) -> json_rows.JsonRows:
    return json_rows.read(files, {name for layout in math_set.layouts for name in (layout.problem, layout.answer)})


def _config(math_set: MathSet, folder: Path) -> str:
    names: list[str] = datasets.get_dataset_config_names(str(folder))
    for name in math_set.configs:
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise DataError(f"{folder} has the configurations {', '.join(names)}; it needs {' or '.join(math_set.configs)}")


def _pick_split(math_set: MathSet, split: str, path: Path, found: Mapping[str, Any]) -> Any:
    # A file has one split, which the library calls "train" whatever it is; the caller has said which one it holds.
    if len(found) == 1 and (path.is_file() or len(math_set.splits) == 1):
        return next(iter(found.values()))
    if math_set.splits[split] not in found:
        raise DataError(f"{path} has the splits {', '.join(found)}; {math_set.name} needs {math_set.splits[split]!r}")
    return found[math_set.splits[split]]


@contextmanager
def quiet() -> Iterator[None]:
    """Without the library's own log lines: its exceptions say the same."""
    before = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)


def first_line(error: BaseException) -> str:
    """The innermost reason, in one line without a full stop."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(".")
