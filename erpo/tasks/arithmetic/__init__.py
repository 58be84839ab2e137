# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded experiment: a seeded arithmetic task, a tiny model warmed up on it, its data and its reward."""
