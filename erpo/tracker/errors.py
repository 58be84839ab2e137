# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The one exception of the tracker."""


class TrackerError(ValueError):
    """Unusable settings, observations or saved state; the message says what is wrong and what to change."""
