# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
import hashlib
import random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erpo.tracker import TrackerError, check_prompts, key_hex, keys_array, prompt_key
from erpo.tracker.keys import KEY_DTYPE, content_hash, keys_hex

CHAT = [{"role": "system", "content": "Think."}, {"role": "user", "content": "2 + 2 = ?"}]


def test_key_is_stable_over_versions() -> None:
    # Keys are stored in checkpoints: these bytes must never change.
    canonical = (
        b'["content","gsm8k",[{"content":"Think.","role":"system"},{"content":"2 + 2 = ?","role":"user"}]]',
        b'["id","7"]',
    )
    assert prompt_key("gsm8k", CHAT) == hashlib.blake2b(canonical[0], digest_size=16).digest()
    assert prompt_key("gsm8k", CHAT, 7) == hashlib.blake2b(canonical[1], digest_size=16).digest()
    assert key_hex(prompt_key("gsm8k", CHAT)) == "f69bc7ddf39aeda7cf9ed4c968e4fb83"


def test_key_survives_parquet(tmp_path) -> None:
    other = [{"role": "user", "content": "3 + 3 = ?", "name": "Ann"}]
    frame = pd.DataFrame({"prompt": [CHAT, other]})
    frame.to_parquet(tmp_path / "data.parquet")
    back = pd.read_parquet(tmp_path / "data.parquet")["prompt"]
    assert isinstance(back[0], np.ndarray)
    assert [prompt_key("gsm8k", prompt) for prompt in back] == [prompt_key("gsm8k", CHAT), prompt_key("gsm8k", other)]


def test_key_depends_on_source_and_text_or_on_the_id_alone() -> None:
    assert prompt_key("a", "x") != prompt_key("b", "x")
    assert prompt_key("a", "x") != prompt_key("a", "y")
    assert prompt_key("a", "x", "id") == prompt_key("b", "y", "id")
    assert prompt_key("a", "x", 7) == prompt_key("a", "x", "7") == prompt_key("a", "x", np.int64(7))
    assert prompt_key("a", "x", "x") != content_hash("a", "x") == prompt_key("a", "x")


def test_message_order_and_shape_count_but_not_field_order() -> None:
    swapped = [dict(reversed(message.items())) for message in CHAT]
    assert prompt_key("a", CHAT) == prompt_key("a", tuple(swapped)) == prompt_key("a", np.array(swapped, dtype=object))
    assert prompt_key("a", CHAT) != prompt_key("a", CHAT[::-1])


def test_keys_array_and_hex_agree() -> None:
    keys = [prompt_key("a", str(number)) for number in range(5)]
    array = keys_array(keys)
    assert array.dtype == KEY_DTYPE and array.shape == (5,)
    assert keys_hex(array).tolist() == [key.hex() for key in keys] == [key_hex(key) for key in array]
    assert keys_hex(array[::2]).tolist() == [key.hex() for key in keys[::2]]
    assert keys_array([]).shape == keys_hex(keys_array([])).shape == (0,)


rows = st.lists(st.tuples(st.sampled_from("ab"), st.text(max_size=3), st.none()), max_size=12)


@given(rows, st.randoms(use_true_random=False))
def test_fingerprint_ignores_order_and_duplicates(rows: list, shuffler: random.Random) -> None:
    summary = check_prompts(rows)
    repeated = rows + [row for row in rows if shuffler.random() < 0.5]
    shuffler.shuffle(repeated)
    again = check_prompts(repeated)
    assert (again.fingerprint, again.prompts) == (summary.fingerprint, summary.prompts)
    assert again.rows == len(repeated) and summary.prompts == len(set(rows))


def test_fingerprint_sees_every_change() -> None:
    base = [("a", "x", "1"), ("a", "y", None)]
    changed = [
        base[:1],
        [*base, ("a", "z", None)],
        [("a", "x", "2"), base[1]],
        [("a", "other text under the same id", "1"), base[1]],
        [],
    ]
    fingerprints = {check_prompts(rows).fingerprint for rows in [base, *changed]}
    assert len(fingerprints) == 6


def test_one_id_for_two_prompts_is_refused() -> None:
    check_prompts([("a", "x", 7), ("a", "x", "7")])
    with pytest.raises(
        TrackerError, match=r"row 2: extra_info\.prompt_id '7' already names a prompt with other content"
    ):
        check_prompts([("a", "x", 7), ("a", "y", 8), ("a", "z", "7")])
