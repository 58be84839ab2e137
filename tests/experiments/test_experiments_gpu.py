# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The image's packages are the tested ones, and the commands of the documentation exist. No image is built here."""

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from erpo.environment.packages import PYTHONS, TESTED

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
LOCKED = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements" / "gpu-py3.12.lock").read_text(), re.MULTILINE))


def test_what_the_image_adds_is_what_is_locked():
    pinned = dict(re.findall(r"^ +([\w.-]+)==([\w.]+)", DOCKERFILE, re.MULTILINE))
    assert {name for name in pinned if name in TESTED["gpu"]} == {"verl", "TransferQueue", "transformers"}
    for name, version in pinned.items():
        assert LOCKED[name.lower().replace("_", "-")] == version, name
        assert TESTED["gpu"].get(name, version) == version


@pytest.mark.parametrize("python", PYTHONS)
def test_locks_hold_the_tested_versions(python):
    text = (ROOT / "requirements" / f"gpu-py{python}.lock").read_text()
    for name, version in TESTED["gpu"].items():
        assert f"\n{name.lower()}=={version}\n" in text, name
    assert "flash-attn" not in text


def documented_commands():
    text = (ROOT / "docs" / "gpu.md").read_text()
    blocks = "\n".join(re.findall(r"```\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    inline = re.findall(r"`(python -m recipe[^`]*)`", text)
    lines = [*blocks.splitlines(), *(" ".join(line.split()) for line in inline)]
    return [line for line in lines if "python -m recipe" in line]


@pytest.mark.slow
@pytest.mark.parametrize("line", documented_commands())
def test_commands_of_the_documentation(line, composed):
    words = shlex.split(line[line.index("python -m") :].split("#")[0])
    module = words[2]
    assert (ROOT / (module.replace(".", "/") + ".py")).exists()
    settings = [word for word in words[3:] if re.match(r"^\+?[\w.]+=", word) and module.endswith(("erpo", "doctor"))]
    OverridesParser.create().parse_overrides(settings)
    if settings:
        composed(*settings)
