# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Command lines of ERPO. ``recipe`` is a namespace package: verl's own recipes live beside it."""
