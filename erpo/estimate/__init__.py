# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Memory and time of a training run, calculated from its settings before any GPU is paid for.

Nothing here was measured on a GPU: :mod:`~erpo.estimate.memory` and :mod:`~erpo.estimate.timing` hold the formulas,
:class:`~erpo.estimate.settings.Assumptions` every number that is neither a setting nor a fact of model or card.
"""

from erpo.estimate.model import ModelShape
from erpo.estimate.plan import Plan, make_plan
from erpo.estimate.settings import CARDS, Assumptions, EstimateError, Hardware, RunSettings

__all__ = ["CARDS", "Assumptions", "EstimateError", "Hardware", "ModelShape", "Plan", "RunSettings", "make_plan"]
