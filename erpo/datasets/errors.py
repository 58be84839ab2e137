# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The one error of this package."""


class DataError(ValueError):
    """Data or a setting that cannot be used; the message is one sentence that says what to change."""
