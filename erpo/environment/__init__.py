# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What the machine has against what a run needs: found before anything is started."""

from erpo.environment.finding import Finding, Level

__all__ = ["Finding", "Level"]
