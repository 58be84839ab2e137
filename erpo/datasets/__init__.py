# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Public math sets as Parquet files in verl's row schema (`prepare`), and a check of their rewards (`rewards`)."""
