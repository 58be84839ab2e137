# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a run's folder."""


class RunFolderError(ValueError):
    """A run's folder that cannot be used; the message says why and what to change."""
