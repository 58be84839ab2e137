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
"""ERPO: Explore Residual Prompts in Policy Optimization (arXiv 2511.04800) on verl.

Packages, from the inside out: ``tracker`` (history and temperature of every prompt; plain numpy), ``runs`` (what a run
leaves on disk), ``trainer`` (the only package that knows verl), ``platform`` (verl and vLLM on a CPU), ``arithmetic``
(the task, the tiny model and the reward of the CPU experiment).
"""

__version__ = "0.1.0"
