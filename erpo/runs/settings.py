# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The settings in a run's folder: no secrets in them, and none overwrites another's.

A start lays its files into ``starting/``; when its first step is recorded they replace those of an earlier start, which
move to ``superseded/``. A start that fails before that leaves the run's own settings as they are.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from erpo.runs.errors import RunFolderError
from erpo.runs.files import write_whole
from erpo.runs.superseded import move

CONFIG_FILE = "config.yaml"
FINGERPRINT_FILE = "fingerprint.json"
LEFT_OUT = "<left out: looks like a secret>"

_STARTING = "starting"
_PRIVATE = 0o600
# "token" and "key" only at the end of a name: token_budget and max_token_len are no secrets.
_SECRET = re.compile(
    r"(api|access|private|secret|signing|encryption)_?key|secret|passw(or)?d|passphrase|credential|authorization"
    r"|(^|_)(auth|pat|bearer|cookie|key)$|token$",
    re.IGNORECASE,
)
# Names of settings that match and name columns, files or numbers.
_NO_SECRETS = {
    "prompt_key", "reward_fn_key", "image_key", "video_key", "audio_key", "teacher_key", "key", "eos_token", "pad_token"
}  # fmt: skip
_LOGIN = re.compile(r"(?<=://)[^/\s@]+@")
_NO_LOGIN = "***@"


def without_secrets(settings: Any) -> Any:
    """Settings as plain containers, with a marker in place of what looks like a secret by its name.

    Names such as ``WANDB_API_KEY``, ``HF_TOKEN`` or ``password`` do, at any depth; logins inside URLs do too.
    """
    if isinstance(settings, Mapping):
        return {
            name: LEFT_OUT if _is_secret(str(name), value) else without_secrets(value)
            for name, value in settings.items()
        }
    if isinstance(settings, list | tuple):
        return [without_secrets(value) for value in settings]
    return _LOGIN.sub(_NO_LOGIN, settings) if isinstance(settings, str) else settings


def secrets_in(settings: Any) -> set[str]:
    """The values that :func:`without_secrets` leaves out."""
    if isinstance(settings, Mapping):
        found = {str(value) for name, value in settings.items() if _is_secret(str(name), value)}
        return found.union(*(secrets_in(value) for value in settings.values()))
    return set().union(*(secrets_in(value) for value in settings)) if isinstance(settings, list | tuple) else set()


def left_out_of(settings: Any, name: str) -> list[str]:
    """Names of the settings in which :func:`without_secrets` put a marker, a list's for what is in it.

    Args:
        settings: The value of a setting.
        name: Its name.
    """
    if isinstance(settings, Mapping):
        return [found for key, value in settings.items() for found in left_out_of(value, f"{name}.{key}")]
    if isinstance(settings, list | tuple):
        return [name] if any(left_out_of(value, name) for value in settings) else []
    marked = isinstance(settings, str) and (settings == LEFT_OUT or f"://{_NO_LOGIN}" in settings)
    return [name] if marked else []


def _is_secret(name: str, value: Any) -> bool:
    return isinstance(value, str) and value != "" and name not in _NO_SECRETS and bool(_SECRET.search(name))


def read_settings(run_folder: Path) -> DictConfig:
    """Settings in a run's folder, empty without them.

    Raises:
        RunFolderError: The file cannot be read.
    """
    file = run_folder / CONFIG_FILE
    if not file.exists():
        return OmegaConf.create()
    try:
        settings = OmegaConf.load(file)
    except Exception as error:  # of yaml, of omegaconf, of the file system
        raise RunFolderError(f"{file} cannot be read ({str(error).splitlines()[0]}); fix or remove it.") from error
    if not isinstance(settings, DictConfig):
        raise RunFolderError(f"{file} holds no settings of a run; fix or remove it.")
    return settings


def setting(settings: DictConfig, name: str, default: Any = None) -> Any:
    """A setting of a run; ``default`` where it has none, or where it refers to what is not there."""
    try:
        value = OmegaConf.select(settings, name)
        value = OmegaConf.to_object(value) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException:
        return default
    return default if value is None else value


def run_names(run_folders: Sequence[Path]) -> list[str]:
    """What each run is called beside the others: its method, with the folder's name where two runs share a method.

    Raises:
        RunFolderError: The settings of a run cannot be read.
    """
    methods = [str(setting(read_settings(path), "erpo.method") or path.resolve().name) for path in run_folders]
    names = [
        method if methods.count(method) == 1 else f"{method} ({path.resolve().name})"
        for method, path in zip(methods, run_folders, strict=True)
    ]
    # Folders of one name in different places.
    return [name if names.count(name) == 1 else f"{name} #{names[:i].count(name) + 1}" for i, name in enumerate(names)]


class PrivateLog:
    """A text file for its owner alone, appended to, with a marker in place of given secrets.

    Args:
        path: The file.
        secrets: Texts to leave out.
    """

    def __init__(self, path: Path, secrets: set[str]) -> None:
        path.touch(mode=_PRIVATE)
        path.chmod(_PRIVATE)
        self._file: TextIO = path.open("a")
        # Short ones would blank half of the text.
        self._secrets = sorted((secret for secret in secrets if len(secret) >= 4), key=len, reverse=True)

    def write(self, text: str) -> int:
        """Append text."""
        for secret in self._secrets:
            text = text.replace(secret, LEFT_OUT)
        return self._file.write(text)

    def flush(self) -> None:
        """Hand it to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "PrivateLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def stage(run_folder: Path, config: Any, fingerprint: str) -> None:
    """Lay the settings and the fingerprint of a start into its folder.

    Args:
        run_folder: Folder of the run; a new one gets its settings at once.
        config: All settings, an OmegaConf node.
        fingerprint: Content of the fingerprint's file (see :mod:`erpo.trainer.identity`).
    """
    settings = OmegaConf.create(without_secrets(OmegaConf.to_container(config, resolve=True)))
    text = OmegaConf.to_yaml(settings).encode()
    write_whole(run_folder / _STARTING / CONFIG_FILE, text, _PRIVATE)
    write_whole(run_folder / _STARTING / FINGERPRINT_FILE, fingerprint.encode())
    if not (run_folder / CONFIG_FILE).exists():
        write_whole(run_folder / CONFIG_FILE, text, _PRIVATE)


def commit(run_folder: Path, superseded: Path) -> None:
    """Let the files of this start replace those of an earlier one, which move to ``superseded`` where they differ."""
    for staged in sorted((run_folder / _STARTING).glob("*")):
        present = run_folder / staged.name
        if present.exists() and present.read_bytes() != staged.read_bytes():
            move(present, run_folder, superseded)
        os.replace(staged, present)
    if (run_folder / _STARTING).is_dir() and not any((run_folder / _STARTING).iterdir()):
        (run_folder / _STARTING).rmdir()
