# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""``--help`` of the commands that Hydra reads begins with examples, and the examples compose."""

import re
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def shown(command: str) -> str:
    arguments = [sys.executable, "-m", f"recipe.erpo.{command}", "--help"]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=600, check=True)
    return result.stdout


def test_help_of_training_shows_commands_and_choices_and_not_all_settings(composed):
    text = shown("main_erpo")
    examples = re.findall(r"python -m recipe\.erpo\.main_erpo (experiment=.*)", text)
    assert len(examples) == 2
    for example in examples:
        assert composed(*example.split()).erpo.method == "erpo"
    assert "method: dapo, erpo, erpo_band" in text and "--multirun" in text
    assert len(text.splitlines()) < 40


@pytest.mark.parametrize("command", ["main_eval", "residual_share"])
def test_help_of_the_evaluations_shows_a_command_and_their_settings_alone(command):
    text = shown(command)
    assert f"python -m recipe.erpo.{command} model=" in text[:300]
    assert "\nmodel: ???\n" in text and "reward_timeout: 60.0" in text
    assert "cpu_arithmetic" not in text
