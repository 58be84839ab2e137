# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Data and model of the real runs."""

from pathlib import Path

import pytest
from e2e_runs import prepare


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """Folder with an untrained model and eight prompts whose outcomes are prescribed."""
    folder = tmp_path_factory.mktemp("untrained")
    prepare(folder, "scripted", ["right"] * 3 + ["wrong"] * 2 + ["mixed"] * 3)
    return folder
