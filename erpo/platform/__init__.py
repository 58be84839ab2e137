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
"""verl and vLLM on a CPU: invisible unless the environment variable ``VERL_PLATFORM`` is ``cpu``."""

import os


def is_chosen() -> bool:
    """Whether this process was told to run verl and vLLM on the CPU."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"
