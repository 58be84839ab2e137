# SPDX-FileCopyrightText: 2026 The ERPO authors
# SPDX-License-Identifier: Apache-2.0
"""The group log: every finished group of a run, dropped ones included."""

from pathlib import Path

import pandas as pd
import pyarrow as pa

from erpo.runs.step_log import StepLog

SCHEMA = pa.schema(
    [
        ("step", pa.int32()),
        ("key", pa.string()),
        ("temperature", pa.float32()),
        ("n", pa.int32()),
        ("correct", pa.int32()),
        ("accuracy", pa.float32()),
        ("lengths", pa.list_(pa.int32())),
        ("truncated", pa.int32()),
        ("outcome", pa.string()),
        ("revived", pa.bool_()),
        ("dropped", pa.bool_()),
        # filtered (a kind that the method drops), surplus (of verl's refill), stale (asynchronous); null: trained on.
        ("drop_reason", pa.string()),
        # Over the group's tokens; null where it was not trained on, or the trainer recomputed no log-probs.
        ("entropy", pa.float32()),
        ("probs_diff_mean", pa.float32()),
        ("probs_diff_max", pa.float32()),
    ],
    metadata={"erpo_group_log": "2"},
)


class GroupLog(StepLog):
    """The group log of one run; a step's rows are the groups that left the replay buffer in it.

    Args:
        run_folder: Folder of the run; the log lies in its sub-folder ``groups``.
    """

    name = "group log"
    sub_folder = "groups"
    schema = SCHEMA


def read_groups(run_folder: str | Path) -> pd.DataFrame:
    """Read the group log of a run, one row per finished group, ordered by step.

    Raises:
        FileNotFoundError: The folder holds no group log.
    """
    return GroupLog(run_folder).read()
