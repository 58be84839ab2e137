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
"""Entry point of group ``vllm.general_plugins``: vLLM calls :func:`register` in every engine process."""

from erpo.platform import is_chosen


def register() -> None:
    """Prepare vLLM's CPU linears for weight updates, on the CPU platform only."""
    if is_chosen():
        from erpo.platform import patches

        patches.patch_vllm()
