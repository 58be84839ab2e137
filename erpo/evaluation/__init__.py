# Copyright 2026 The ERPO authors
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""Evaluation of models and runs: what ``recipe.erpo.main_eval``, ``residual_share`` and ``tables`` are made of.

The way of a prompt, one module a step: :mod:`~erpo.evaluation.data` reads it, :mod:`~erpo.evaluation.checkpoint` finds
(and merges) the model, :mod:`~erpo.evaluation.sampler` samples responses with vLLM, :mod:`~erpo.evaluation.scorer`
judges them, :mod:`~erpo.evaluation.store` keeps them over an interruption, :mod:`~erpo.evaluation.estimators` and the
reports turn them into numbers.
"""
