# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The tasks that a CPU can train on, a package each: seeded problems, a model warmed up on them, data and reward.

What they share stands beside them: :mod:`~erpo.tasks.artefact` keeps model and data in a folder,
:mod:`~erpo.tasks.pools` draws the problems, :mod:`~erpo.tasks.supervised` takes the steps of the warm-up.
"""
