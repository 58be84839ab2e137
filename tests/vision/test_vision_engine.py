# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Log-probs of responses to images, each at its own temperature, by verl's FSDP2 and our engine."""

import json

import pytest
from vision_scripts import run_script

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "arguments", [pytest.param([], id="unfused"), pytest.param(["fused"], id="fused", marks=pytest.mark.long)]
)
def test_log_probs_of_responses_to_images_are_those_of_the_definition(seeing, tiny, arguments):
    output = run_script("engine_with_images.py", {**seeing, "VERL_PLATFORM": "cpu"}, str(tiny), *arguments)
    found = json.loads(output.splitlines()[-1])
    assert found.pop("engine") == "PerResponseTemperatureEngine"
    # The part that sees has a gradient, so that the images are in what was compared.
    assert found.pop("vision") > 1e-2
    assert max(found.values()) < 2e-6
