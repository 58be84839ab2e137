# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""Reward of the calculator task: what the model wrote after the last tool response must be the answer.

verl hands over the whole response, tool responses included: a scorer that searched all of it would find the
calculator's own answer.
"""


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """1 for a right answer, else 0."""
    acc = float(solution_str.rpartition("</tool_response>")[2].strip() == ground_truth)
    return {"score": acc, "acc": acc}
