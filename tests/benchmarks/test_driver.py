# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The sums, ratios and projection of the benchmark of the trainer's process, and the sizes it counts."""

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from benchmarks.driver import STAGES, compare, size_of, table


def moved(per_response: float, per_token: float, tokens: int) -> dict[str, float]:
    """Bytes by stage of which one stage has all."""
    return {**dict.fromkeys(STAGES, 0.0), "metrics": per_response + per_token * tokens}


@pytest.fixture
def result():
    counted = {
        (name, tokens): moved(100, rate, tokens) for name, rate in (("verl", 40), ("ours", 60)) for tokens in (4, 8)
    }
    seconds = {"verl": dict.fromkeys(STAGES, 0.001), "ours": dict.fromkeys(STAGES, 0.0015)}
    return compare(counted, seconds, 8)


def test_projection_is_by_the_line_through_both_lengths(result):
    assert result["gib_at_1024x16x8192"]["verl"] == pytest.approx(1024 * 16 * (100 + 40 * 8192) / 2**30)
    assert result["gib_at_1024x16x8192"]["ours"] == pytest.approx(1024 * 16 * (100 + 60 * 8192) / 2**30)


def test_ratios_are_of_the_sums_over_stages(result):
    assert result["bytes_ratio_to_verl"] == pytest.approx((100 + 480) / (100 + 320))
    assert result["seconds_ratio_to_verl"] == pytest.approx(1.5)
    assert "| all | 0.420 | 0.580 | 4.000 | 6.000 |" in table(result)


def test_size_of_columns():
    nested = torch.nested.as_nested_tensor([torch.zeros(3), torch.zeros(5)], layout=torch.jagged)
    data = TensorDict({"advantages": nested, "response_mask": torch.zeros(2, 8, dtype=torch.int64)}, batch_size=2)
    assert size_of(dict(data.items())) == 8 * 4 + 16 * 8
    texts = np.array([letter * 1000 for letter in "ab"], dtype=object)
    column = tu.get_tensordict({"data_source": texts, "mask": torch.zeros(2)})["data_source"]
    assert 2000 < size_of(column) < 2100
