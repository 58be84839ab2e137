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
"""Memory and time of a training run, calculated from its settings before any GPU is paid for.

Nothing here was measured on a GPU: :mod:`~erpo.estimate.memory` and :mod:`~erpo.estimate.timing` hold the formulas,
:class:`~erpo.estimate.settings.Assumptions` every number that is neither a setting nor a fact of model or card.
"""

from erpo.estimate.model import ModelShape
from erpo.estimate.plan import Plan, make_plan
from erpo.estimate.settings import CARDS, Assumptions, EstimateError, Hardware, RunSettings

__all__ = ["CARDS", "Assumptions", "EstimateError", "Hardware", "ModelShape", "Plan", "RunSettings", "make_plan"]
