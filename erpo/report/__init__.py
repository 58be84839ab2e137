# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The report of runs: one HTML page to read, share and print. ``python -m erpo.report RUN [RUN...] --out DIR``."""

from erpo.report.page import write_report

__all__ = ["write_report"]
