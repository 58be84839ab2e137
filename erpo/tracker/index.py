# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A hash table from prompt keys to rows, on NumPy arrays: no Python object per prompt."""

import numpy as np
from numpy.typing import NDArray

from erpo.tracker.errors import TrackerError
from erpo.tracker.keys import KEY_DTYPE, KeyArray, key_hex, require_keys

_MAX_LOAD = 0.5
_SMALLEST = 1024
# Bulk work goes in pieces, so that its temporaries stay small beside the table.
_PIECE = 1 << 20


class KeyIndex:
    """Rows 0, 1, 2, ... of the known prompt keys.

    Open addressing with double hashing. Keys are hashes already: the low bits of their halves are the first slot and
    the step. Costs 16 bytes per key, plus what the last growth left free, and 8 to 16 for slots; holds 2**31 keys.

    Args:
        keys: Distinct keys for rows 0 to n - 1, shape (n,).

    Raises:
        TrackerError: a key occurs twice.
    """

    def __init__(self, keys: KeyArray | None = None) -> None:
        self._keys: KeyArray = np.empty(_SMALLEST, dtype=KEY_DTYPE)
        self._size = 0
        self._slots: NDArray[np.int32] = np.full(2 * _SMALLEST, -1, dtype=np.int32)
        if keys is not None:
            require_keys(keys)
            self._append(keys)
            for start in range(0, keys.size, _PIECE):
                rows = self.rows_for(keys[start : start + _PIECE])
                twice = rows != np.arange(start, start + rows.size)
                if twice.any():
                    raise TrackerError(f"key {key_hex(keys[start + int(twice.argmax())])} occurs twice; keep one")

    def __len__(self) -> int:
        return self._size

    @property
    def keys(self) -> KeyArray:
        """The keys by row, shape (n,); a view."""
        return self._keys[: self._size]

    def rows_for(self, keys: KeyArray) -> NDArray[np.int64]:
        """Look keys of shape (k,) up; returns rows of shape (k,), -1 where a key is unknown."""
        require_keys(keys)
        rows = np.full(keys.size, -1, dtype=np.int64)
        pending = np.arange(keys.size)
        slots, steps = self._probes(keys)
        while pending.size:
            candidates = self._slots[slots]
            taken = candidates >= 0
            stored, wanted = self._keys[candidates], keys[pending]
            # Field by field is several times faster than comparing the structures.
            hit = taken & (stored["lo"] == wanted["lo"]) & (stored["hi"] == wanted["hi"])
            rows[pending[hit]] = candidates[hit]
            probe_on = taken & ~hit
            pending = pending[probe_on]
            slots = (slots[probe_on] + steps[pending]) & (self._slots.size - 1)
        return rows

    def add(self, keys: KeyArray) -> NDArray[np.int64]:
        """Register the unknown ones among keys of shape (k,), and return the rows of all, shape (k,).

        New rows are given in the order of the keys, so the order inside a call does not matter.
        """
        rows = self.rows_for(keys)
        unknown = rows < 0
        if unknown.any():
            self._append(_distinct(keys[unknown]))
            rows[unknown] = self.rows_for(keys[unknown])
        return rows

    def _append(self, keys: KeyArray) -> None:
        """Give new, distinct keys the next rows."""
        old_size, new_size = self._size, self._size + keys.size
        if new_size > self._keys.size:
            grown = np.empty(max(new_size, self._keys.size * 3 // 2), dtype=KEY_DTYPE)
            grown[:old_size] = self.keys
            self._keys = grown
        self._keys[old_size:new_size] = keys
        self._size = new_size
        if new_size > _MAX_LOAD * self._slots.size:
            slots = self._slots.size
            while new_size > _MAX_LOAD * slots:
                slots *= 2
            self._slots = np.full(slots, -1, dtype=np.int32)
            old_size = 0
        for start in range(old_size, new_size, _PIECE):
            self._insert(np.arange(start, min(start + _PIECE, new_size), dtype=np.int32))

    def _insert(self, rows: NDArray[np.int32]) -> None:
        """Enter rows that are not in the table yet."""
        slots, steps = self._probes(self._keys[rows])
        while rows.size:
            free = self._slots[slots] < 0
            self._slots[slots[free]] = rows[free]
            # Of several rows that claimed one free slot a single one is in it now; the others probe on.
            probe_on = self._slots[slots] != rows
            rows, steps = rows[probe_on], steps[probe_on]
            slots = (slots[probe_on] + steps) & (self._slots.size - 1)

    def _probes(self, keys: KeyArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First slot and step of keys; an odd step visits all slots, for their number is a power of two."""
        mask = np.uint64(self._slots.size - 1)
        return (keys["lo"] & mask).astype(np.int64), (keys["hi"] & mask | np.uint64(1)).astype(np.int64)


def _distinct(keys: KeyArray) -> KeyArray:
    """Sort keys and drop repeated ones; np.unique is many times slower on structured arrays."""
    keys = keys[np.lexsort((keys["lo"], keys["hi"]))]
    return keys[np.append(True, keys[1:] != keys[:-1])]
