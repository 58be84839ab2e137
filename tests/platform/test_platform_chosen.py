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
"""The CPU platform is there when it is asked for by name, and otherwise leaves no trace in verl."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import importlib.metadata, torch, verl
from verl.plugin.platform import PlatformRegistry, get_platform
import verl.utils.distributed as distributed
print(PlatformRegistry.get("cpu") is not None, get_platform().device_name,
      getattr(importlib.metadata.version, "_erpo", False),
      hasattr(distributed.initialize_global_process_group_ray, "__wrapped__"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("platform", "expected"), [("cpu", "True cpu True True"), ("nvidia", "False cuda False False")]
)
def test_plugin_acts_only_when_chosen(platform, expected):
    environment = {**os.environ, "VERL_PLATFORM": platform}
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == expected
