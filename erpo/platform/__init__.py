# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""verl and vLLM on a CPU: invisible unless the environment variable ``VERL_PLATFORM`` is ``cpu``."""

import os


def is_chosen() -> bool:
    """Whether this process was told to run verl and vLLM on the CPU."""
    return os.environ.get("VERL_PLATFORM", "").strip().lower() == "cpu"
