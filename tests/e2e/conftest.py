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

import pytest
from e2e_runs import prepare


@pytest.fixture(scope="session")
def untrained(tmp_path_factory) -> Path:
    """Folder with an untrained model and eight prompts whose outcomes are prescribed."""
    folder = tmp_path_factory.mktemp("untrained")
    prepare(folder, "scripted", ["right"] * 3 + ["wrong"] * 2 + ["mixed"] * 3)
    return folder
