# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from erpo.tracker.index import KeyIndex
from erpo.tracker.keys import KEY_DTYPE, KeyArray

# Small halves collide in the table, and keys differ in one half only.
halves = st.one_of(st.integers(0, 3), st.integers(0, 2**64 - 1))
key_lists = st.lists(st.tuples(halves, halves), max_size=40)


def pack(keys: list[tuple[int, int]]) -> KeyArray:
    return np.array(keys, dtype=KEY_DTYPE)


@given(st.lists(st.tuples(st.booleans(), key_lists), max_size=6))
@settings(max_examples=60)
def test_index_is_a_dict(calls: list[tuple[bool, list[tuple[int, int]]]]) -> None:
    index, model = KeyIndex(), {}
    for is_add, keys in calls:
        if is_add:
            for key in sorted(set(keys) - set(model)):
                model[key] = len(model)
            rows = index.add(pack(keys))
        else:
            rows = index.rows_for(pack(keys))
        assert rows.tolist() == [model.get(key, -1) for key in keys]
        assert len(index) == len(model)
    assert index.keys.tolist() == list(model)
    assert KeyIndex(index.keys).rows_for(index.keys).tolist() == list(range(len(model)))


def test_index_grows() -> None:
    keys = np.frombuffer(np.random.default_rng(0).bytes(16 * 50_000), dtype=KEY_DTYPE)
    index = KeyIndex()
    for start in range(0, keys.size, 7_000):
        index.add(keys[start : start + 7_000])
    assert len(index) == 50_000
    assert np.array_equal(index.keys[index.rows_for(keys)], keys)
    unknown = np.frombuffer(np.random.default_rng(1).bytes(16 * 1_000), dtype=KEY_DTYPE)
    assert (index.rows_for(unknown) == -1).all()


def test_keys_of_one_first_slot_are_told_apart() -> None:
    keys = np.zeros(3_000, dtype=KEY_DTYPE)
    keys["hi"] = np.arange(3_000)
    index = KeyIndex()
    assert index.add(keys).tolist() == list(range(3_000))
    assert index.rows_for(keys).tolist() == list(range(3_000))


def test_order_of_a_call_does_not_matter() -> None:
    keys = np.frombuffer(np.random.default_rng(0).bytes(16 * 100), dtype=KEY_DTYPE)
    one, other = KeyIndex(), KeyIndex()
    one.add(keys)
    other.add(keys[::-1])
    assert np.array_equal(one.keys, other.keys)
