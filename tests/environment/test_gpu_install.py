# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The GPU stack as its lock says, in a clean environment, as far as a machine without GPU goes: 10 GB on disk."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from erpo.environment.packages import PYTHONS

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).with_name("uv")
NEEDED = 20 * 2**30

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not UV.exists(), reason="uv is not installed beside this Python"),
]


def interpreter(version):
    """A Python of this version, of the PATH or of pyenv, whose own commands run only where one was chosen."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for python in (shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")):
        if python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0:
            return python
    pytest.skip(f"this machine has no Python {version}")


@pytest.mark.parametrize("version", PYTHONS)
def test_the_lock_installs_imports_and_passes_the_fast_tests(version, tmp_path):
    if shutil.disk_usage(tmp_path).free < NEEDED:
        pytest.skip(f"{tmp_path} has less than 20 GB free")
    python = tmp_path / "venv" / "bin" / "python"
    lock = ROOT / "requirements" / f"gpu-py{version}.lock"

    def run(*command, code=0):
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout

    try:
        run(UV, "venv", "--python", interpreter(version), tmp_path / "venv")
        run(UV, "pip", "install", "--python", python, "-r", lock)
        run(UV, "pip", "install", "--python", python, "--no-deps", ROOT)
        run(UV, "pip", "install", "--python", python, "pytest", "hypothesis", "pytest-timeout", "pytest-xdist")
        run(python, "-c", "import torch, vllm, verl, transfer_queue, erpo.trainer.trainer, erpo.trainer.engine")
        settings = ["experiment=qwen2_5_0_5b", "method=erpo", "--json"]
        found = json.loads(run(python, "-m", "recipe.erpo.doctor", *settings, code=1))
        levels = {entry["check"]: entry["level"] for entry in found}
        assert {levels[name] for name in ("verl", "torch", "vllm", "transformers", "TransferQueue")} == {"ok"}
        assert levels["settings"] == "ok"
        run(python, "-m", "pytest", "-q", "-m", "not ray and not slow", "tests/tracker", "tests/trainer", "tests/runs")
    finally:
        shutil.rmtree(tmp_path / "venv", ignore_errors=True)
