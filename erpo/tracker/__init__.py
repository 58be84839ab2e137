# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""History of every prompt and the sampling temperature that follows from it; plain Python and NumPy."""

from erpo.tracker.config import TrackerConfig
from erpo.tracker.errors import TrackerError
from erpo.tracker.history import Column, PromptHistory
from erpo.tracker.keys import DataSummary, check_prompts, key_hex, keys_array, prompt_key
from erpo.tracker.outcome import GroupOutcomes, Outcome, classify, is_correct
from erpo.tracker.schedules.base import Schedule, is_raised, on_grid
from erpo.tracker.tracker import Observation, PromptTracker

__all__ = [
    "Column",
    "DataSummary",
    "GroupOutcomes",
    "Observation",
    "Outcome",
    "PromptHistory",
    "PromptTracker",
    "Schedule",
    "TrackerConfig",
    "TrackerError",
    "check_prompts",
    "classify",
    "is_correct",
    "is_raised",
    "key_hex",
    "keys_array",
    "on_grid",
    "prompt_key",
]
