# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""ERPO: Explore Residual Prompts in Policy Optimization (arXiv 2511.04800) on verl.

Packages, from the inside out: ``tracker`` (history and temperature of every prompt; plain numpy), ``runs`` (what a run
leaves on disk), ``trainer`` (the only package that knows verl), ``platform`` (verl and vLLM on a CPU), ``arithmetic``
(the task, the tiny model and the reward of the CPU experiment).
"""

__version__ = "0.1.0"
