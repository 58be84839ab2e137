# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Prompt keys: 128 bits that name a prompt, whatever its place in the data set.

A key is made from an explicit id where the data has one, else from the prompt itself. It must not depend on the row
number: data sets repeat prompts (DAPO-Math-17k holds each about 100 times) and samplers shuffle rows.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.errors import TrackerError

KEY_BYTES = 16
KEY_DTYPE = np.dtype([("hi", "<u8"), ("lo", "<u8")])
KeyArray = NDArray[np.void]

_CANONICAL_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def prompt_key(data_source: str, prompt: Any, prompt_id: str | int | None = None) -> bytes:
    """Make the key of one prompt.

    With an id the key depends on the id alone, so ids must be unique over all data sources (see `check_prompts`).
    Without one it depends on the data source and the content of the messages, images and other bytes included.

    Args:
        data_source: Name of the data set, verl's `data_source`.
        prompt: A string, or chat messages: a list, tuple or array of `{role, content}`.
        prompt_id: Explicit id, `extra_info.prompt_id`; 7 and "7" are the same id.

    Returns:
        16 bytes.

    Raises:
        TrackerError: the id is empty or neither string nor integer, or the prompt is not JSON.
    """
    if prompt_id is None:
        return content_hash(data_source, prompt)
    if isinstance(prompt_id, bool) or not isinstance(prompt_id, (str, int, np.integer)):
        raise TrackerError(
            f"extra_info.prompt_id {prompt_id!r} is of type {type(prompt_id).__name__}; make it a string or an integer"
        )
    if prompt_id == "":
        raise TrackerError("extra_info.prompt_id is an empty string; give the prompt an id or leave the field out")
    return _digest(["id", str(prompt_id)])


def content_hash(data_source: str, prompt: Any, *, strict: bool = True) -> bytes:
    """Hash what a prompt says, in 16 bytes: equal before and after a trip through Parquet or pandas.

    Bytes, and objects such as images that can give theirs, count by a digest of them. With `strict` anything else that
    JSON cannot hold is an error; without, it counts by its type.

    Raises:
        TrackerError: the prompt or the data source is not what verl's row schema says.
    """
    if not isinstance(data_source, str):
        raise TrackerError(f"data_source is of type {type(data_source).__name__}; make it a string")
    if not isinstance(prompt, (str, list, tuple, np.ndarray)):
        raise TrackerError(
            f"the prompt is of type {type(prompt).__name__}; make it a string or a list of {{role, content}} messages"
        )
    return _digest(["content", data_source, _as_json(prompt, strict)])


def keys_array(keys: Sequence[bytes]) -> KeyArray:
    """Pack keys of 16 bytes into an array of `KEY_DTYPE`, shape (n,)."""
    if any(len(key) != KEY_BYTES for key in keys):
        raise TrackerError(f"a prompt key must have {KEY_BYTES} bytes; make keys with prompt_key()")
    return np.frombuffer(b"".join(keys), dtype=KEY_DTYPE)


def require_keys(keys: KeyArray) -> None:
    """Raise unless this is an array of keys, shape (n,)."""
    if keys.dtype != KEY_DTYPE or keys.ndim != 1:
        raise TrackerError("keys must be a flat array of KEY_DTYPE; make it with keys_array()")


def key_hex(key: bytes | np.void) -> str:
    """Write one key as 32 hexadecimal digits."""
    return (key if isinstance(key, bytes) else key.tobytes()).hex()


def keys_hex(keys: KeyArray) -> NDArray[np.str_]:
    """Write keys, shape (n,), as 32 hexadecimal digits each, shape (n,)."""
    return np.frombuffer(keys.tobytes().hex().encode("ascii"), dtype="S32").astype("U32")


@dataclass(frozen=True)
class DataSummary:
    """What one pass over a data set found.

    Attributes:
        rows: Number of rows.
        prompts: Number of distinct prompts.
        fingerprint: 32 hexadecimal digits that name the set of distinct prompts; the order of the rows and repeated
            rows do not change it.
    """

    rows: int
    prompts: int
    fingerprint: str


def check_prompts(rows: Iterable[tuple[str, Any, str | int | None]]) -> DataSummary:
    """Check that every id names one prompt, and summarise the data set, holding only the distinct keys.

    Args:
        rows: `(data_source, prompt, prompt_id)` of every row; the id may be None.

    Raises:
        TrackerError: a row has no usable key, or one id has two different contents.
    """
    content_of: dict[bytes, bytes] = {}
    number = -1
    for number, (data_source, prompt, prompt_id) in enumerate(rows):
        try:
            key = prompt_key(data_source, prompt, prompt_id)
            content = key if prompt_id is None else content_hash(data_source, prompt, strict=False)
        except TrackerError as error:
            raise TrackerError(f"row {number}: {error}") from None
        if content_of.setdefault(key, content) != content:
            raise TrackerError(
                f"row {number}: extra_info.prompt_id {prompt_id!r} already names a prompt with other content; "
                "give every prompt its own id"
            )
    fingerprint = hashlib.blake2b(digest_size=KEY_BYTES)
    for key in sorted(content_of):
        fingerprint.update(key + content_of[key])
    return DataSummary(rows=number + 1, prompts=len(content_of), fingerprint=fingerprint.hexdigest())


def _digest(value: list[Any]) -> bytes:
    return hashlib.blake2b(_CANONICAL_JSON.encode(value).encode("ascii"), digest_size=KEY_BYTES).digest()


def _as_json(value: Any, strict: bool) -> Any:
    """Reduce arrays, tuples, NumPy scalars and bytes to plain JSON values."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, Mapping):
        # Parquet gives every message the fields of all messages and fills the gaps with None.
        return {str(name): _as_json(item, strict) for name, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [_as_json(item, strict) for item in value]
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, np.ndarray):
        return _as_json(value.tolist(), strict)
    content = value if isinstance(value, (bytes, bytearray, memoryview)) else _bytes_of(value)
    if content is not None:
        shape = str(getattr(value, "shape", None) or getattr(value, "size", ""))
        return {"bytes": hashlib.blake2b(content, digest_size=KEY_BYTES).hexdigest(), "shape": shape}
    if not strict:
        return {"type": type(value).__name__}
    what = f"the number {value}" if isinstance(value, float) else f"a value of type {type(value).__name__}"
    raise TrackerError(f"the prompt holds {what}, which is not JSON; set extra_info.prompt_id for it")


def _bytes_of(value: Any) -> bytes | None:
    """The bytes of an object that can give them, such as an image of Pillow's."""
    give = getattr(value, "tobytes", None)
    if not callable(give) or isinstance(value, np.generic):
        return None
    try:
        return bytes(give())
    # Pillow decodes an image here, and knows a broken file by either.
    except (OSError, SyntaxError, ValueError) as error:
        raise TrackerError(f"an image of the prompt cannot be read ({error}); replace it or drop the row") from None
