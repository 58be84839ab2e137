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
"""History of every prompt and the sampling temperature that follows from it; plain Python and NumPy."""

from erpo.tracker.config import TrackerConfig
from erpo.tracker.errors import TrackerError
from erpo.tracker.keys import DataSummary, check_prompts, key_hex, keys_array, prompt_key
from erpo.tracker.outcome import GroupOutcomes, Outcome, classify
from erpo.tracker.tracker import Observation, PromptTracker

__all__ = [
    "DataSummary",
    "GroupOutcomes",
    "Observation",
    "Outcome",
    "PromptTracker",
    "TrackerConfig",
    "TrackerError",
    "check_prompts",
    "classify",
    "key_hex",
    "keys_array",
    "prompt_key",
]
