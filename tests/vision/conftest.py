# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""An environment in which verl can read images, and an untrained model that sees."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from vision_scripts import run_script

# Of requirements/gpu-*.lock, but for torchvision, which follows torch.
PACKAGES = ("torchvision==0.28.0", "qwen-vl-utils==0.0.14")
# The registry's torchvision is a build for CUDA. Beside a CPU build of torch its operators do not load, and the import
# fails at the two that it describes on its way. Nothing that resizes an image uses them.
DECLARE_OPERATORS = """
import wrapt

@wrapt.when_imported("torchvision.extension")
def declare(extension):
    import torch
    if not extension._has_ops():
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""


@pytest.fixture(scope="session")
def seeing(tmp_path_factory) -> dict[str, str]:
    """Environment variables of a process that finds the two packages, which text models do without.

    They lie in a folder of their own: with such a torchvision nothing that imports transformers works without the lines
    above.
    """
    folder = tmp_path_factory.mktemp("packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), *PACKAGES]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    # Python runs it at every start.
    (folder / "sitecustomize.py").write_text(DECLARE_OPERATORS)
    inherited = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(folder), *([inherited] if inherited else [])])}


@pytest.fixture(scope="session")
def tiny(seeing, tmp_path_factory) -> Path:
    """Folder with an untrained Qwen2-VL, ``model``, and eight rows of prompts with images, ``train.parquet``."""
    folder = tmp_path_factory.mktemp("tiny")
    run_script("tiny_qwen2_vl.py", seeing, str(folder))
    return folder
