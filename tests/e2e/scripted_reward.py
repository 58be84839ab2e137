# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""A reward whose outcome the data prescribes, so that an untrained model has residual prompts and a gradient."""

KINDS = ("right", "wrong", "mixed")


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """All responses to a "right" prompt are correct, to a "wrong" one none, to a "mixed" one those of even length.

    Of an arithmetic problem, the remainder of its answer by three is the kind.
    """
    kind = ground_truth if ground_truth in KINDS else KINDS[int(ground_truth) % 3]
    acc = {"right": 1.0, "wrong": 0.0, "mixed": float(len(solution_str) % 2 == 0)}[kind]
    return {"score": acc, "acc": acc}
