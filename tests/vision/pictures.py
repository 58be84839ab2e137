# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Prompts with images, in verl's row schema."""

import io

import numpy as np
from PIL import Image

SIDE = 56  # pixels; the least that verl's reader of images hands on, four tokens


def picture(number: int) -> dict[str, bytes | None]:
    """A picture as verl's example data hold it: the bytes of a file, here a PNG of random pixels."""
    pixels = np.random.default_rng(number).integers(256, size=(SIDE, SIDE, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def row(text: str, *pictures: int, kind: str, **extra) -> dict:
    """A row in verl's schema, as its geo3k example has them; `kind` is what the reward of the real runs prescribes."""
    return {
        "data_source": "pictures",
        "prompt": [{"role": "user", "content": "<image>" * len(pictures) + text}],
        "images": [picture(number) for number in pictures],
        "ability": "math",
        "reward_model": {"style": "rule", "ground_truth": kind},
        "extra_info": {"split": "train", **extra},
    }


def rows() -> list[dict]:
    """Seven prompts in eight rows: pictures under one text, one under several, two in both orders, none, one twice."""
    return [
        row("How many?", 1, kind="right"),
        row("How many?", 2, kind="wrong"),
        row("How many?", 3, kind="mixed"),
        row("What is it?", 1, kind="mixed"),
        row("Which one?", 1, 2, kind="right"),
        row("Which one?", 2, 1, kind="wrong"),
        row("How many?", kind="mixed"),
        row("How many?", 1, kind="right"),
    ]
