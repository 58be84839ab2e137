# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Loads the rows of a set of the user's own: files, a folder, or a name on the Hugging Face hub."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from erpo.datasets import json_rows
from erpo.datasets.errors import DataError
from erpo.datasets.source import ENDINGS, Rows, describe_local, first_line, not_loaded, quiet, splits_of_folder

_ADVICE = "give a file that ends in .jsonl, .json or .parquet, a folder, or a name OWNER/NAME on the hub"
_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def load(
    places: Sequence[str], wanted: Collection[str], config: str | None, split: str | None, revision: str | None
) -> Rows:
    """Rows of the user's own files, folder or hub set.

    Args:
        places: Files of one kind, one folder laid out as a repository of the hub, or one name OWNER/NAME.
        wanted: Columns whose values are needed of JSON files.
        config: Configuration of a repository; None: its only one.
        split: Split of a repository; None: its only one.
        revision: Commit, tag or branch of a hub set; None: the newest.

    Raises:
        DataError: A place cannot be read, or is none of these.
    """
    if _is_on_hub(places):
        return _own_from_hub(places[0], config, split, revision)
    paths = [Path(place) for place in places]
    folders, kinds = any(path.is_dir() for path in paths), {_kind(path) for path in paths if not path.is_dir()}
    if len(kinds) + folders > 1 or (folders and len(paths) > 1):
        raise DataError(
            f"{', '.join(places)} are not of one kind; give files that are all Parquet or all JSON, or one folder"
        )
    try:
        if folders:
            return _own_from_folder(paths[0], wanted, config, split)
        if kinds == {"json"}:
            return json_rows.read(paths, wanted)
        with quiet():
            return datasets.load_dataset("parquet", data_files=[str(path) for path in paths], split="train")
    except DataError:
        raise
    # As for the sets that are known here.
    except Exception as error:
        raise DataError(f"cannot read {', '.join(places)} ({first_line(error)}); give files with rows") from error


def describe(
    places: Sequence[str], config: str | None, split: str | None, revision: str | None
) -> dict[str, Any] | list[dict[str, Any]]:
    """What names the content of the user's own source: a name on the hub, or hashes of local files.

    Raises:
        DataError: A place is neither there nor a name on the hub, or a setting has no effect.
    """
    if _is_on_hub(places):
        return {"hub": places[0], "revision": revision, "config": config, "split": split}
    if revision is not None:
        raise DataError("--revision is for a set on the hub; leave it out")
    if any(value is not None for value in (config, split)):
        if not all(Path(place).is_dir() for place in places):
            raise DataError("--config and --split are for a folder or a set on the hub; leave them out")
        return [{**describe_local(Path(place), _ADVICE), "config": config, "split": split} for place in places]
    return [describe_local(Path(place), _ADVICE) for place in places]


def _kind(path: Path) -> str:
    if path.suffix not in ENDINGS:
        raise DataError(f"the source {path} cannot be read; {_ADVICE}")
    return "parquet" if path.suffix == ".parquet" else "json"


def _is_on_hub(places: Sequence[str]) -> bool:
    return (
        len(places) == 1
        and _HUB_NAME.fullmatch(places[0]) is not None
        and not (Path(places[0]).exists() or places[0].endswith(ENDINGS))
    )


def _own_from_hub(repository: str, config: str | None, split: str | None, revision: str | None) -> datasets.Dataset:
    try:
        with quiet():
            config = _own_config(repository, config, datasets.get_dataset_config_names(repository, revision=revision))
            if split is not None:
                return datasets.load_dataset(repository, config, split=split, revision=revision)
            return _own_split(repository, None, datasets.load_dataset(repository, config, revision=revision))
    except DataError:
        raise
    except Exception as error:
        raise DataError(not_loaded(repository, revision, error)) from error


def _own_from_folder(folder: Path, wanted: Collection[str], config: str | None, split: str | None) -> Rows:
    with quiet():
        config = _own_config(str(folder), config, datasets.get_dataset_config_names(str(folder)))
        found = splits_of_folder(folder, config)
        rows = _own_split(str(folder), split, found)
        return json_rows.read([Path(file) for file in rows], wanted) if isinstance(rows, list) else rows


def _own_config(where: str, config: str | None, names: Sequence[str]) -> str:
    if config is None and len(names) == 1:
        return names[0]
    if config is None or config not in names:
        raise DataError(f"{where} has the configurations {', '.join(names)}; name one of them with --config")
    return config


def _own_split(where: str, split: str | None, found: Mapping[str, Any]) -> Any:
    if split is None and len(found) == 1:
        return next(iter(found.values()))
    if split is None or split not in found:
        raise DataError(f"{where} has the splits {', '.join(found)}; name one of them with --split")
    return found[split]
