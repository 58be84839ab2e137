# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of models and runs: what ``recipe.erpo.main_eval``, ``residual_share`` and ``tables`` are made of.

The way of a prompt, one module a step: :mod:`~erpo.evaluation.data` reads it, :mod:`~erpo.evaluation.checkpoint` finds
(and merges) the model, :mod:`~erpo.evaluation.sampler` samples responses with vLLM, :mod:`~erpo.evaluation.scorer`
judges them, :mod:`~erpo.evaluation.store` keeps them over an interruption, :mod:`~erpo.evaluation.estimators` and the
reports turn them into numbers.
"""
