# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Data and model of the real runs."""

from pathlib import Path

import pandas as pd
import pytest

from erpo.arithmetic.model import build_model, build_tokenizer

KINDS = ["right"] * 3 + ["wrong"] * 2 + ["mixed"] * 3


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """Folder with an untrained model and eight prompts whose outcomes are prescribed."""
    folder = tmp_path_factory.mktemp("untrained")
    tokenizer = build_tokenizer()
    build_model(tokenizer, seed=0).save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [
        {
            "data_source": "scripted",
            "prompt": [{"role": "user", "content": f"{10 + i}+{i + 2}="}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": kind},
            "extra_info": {"index": i, "prompt_id": f"{kind}-{i}"},
        }
        for i, kind in enumerate(KINDS)
    ]
    pd.DataFrame(rows).to_parquet(folder / "train.parquet")
    return folder
