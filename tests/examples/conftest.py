# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The examples as their readers have them: files in a folder."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def examples() -> Path:
    """Folder of the examples."""
    return Path(__file__).parents[2] / "examples"
